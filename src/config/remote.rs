//! Which server the command line speaks to where that is said: by flag, else by variable.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use super::source::{Variables, read_secret};
use super::{Secret, environment};

/// The variable that names a server on another machine, as `http://nas:8000`.
const SERVER: &str = "PORTCULLIS_SERVER";
/// The variables that hold the token for it, or name its file.
const TOKEN: &str = "PORTCULLIS_TOKEN";
const TOKEN_FILE: &str = "PORTCULLIS_TOKEN_FILE";

/// A server that is reached over the network.
#[derive(Debug, Clone)]
pub struct RemoteServer {
    /// Its address as it was typed.
    pub url: String,
    /// What it is asked with; never given as a flag, since everybody on the machine sees those.
    pub token: Option<Secret>,
}

/// Says what is wrong with what names the server, as a sentence. It never holds the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {sentence}")]
pub struct RemoteMistake {
    name: &'static str,
    sentence: String,
}

/// Returns the server on the network that is meant; `None` where the one of the state folder is. Reads the token's file: blocks.
///
/// # Errors
/// [`RemoteMistake`] where something of it cannot be read.
pub fn remote_server(server: Option<&str>, token_file: Option<&Path>) -> Result<Option<RemoteServer>, RemoteMistake> {
    read(server, token_file, &environment())
}

fn read(server: Option<&str>, token_file: Option<&Path>, environment: &Variables) -> Result<Option<RemoteServer>, RemoteMistake> {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
    let variable = |name: &'static str| match set(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(mistake(name, "it is not valid UTF-8")),
    };
    let Some(url) = server.map(str::to_owned).map_or_else(|| variable(SERVER), |url| Ok(Some(url)))? else {
        // Over the socket no token is needed, so one that is set is for another server.
        return match token_file {
            Some(_) => Err(mistake("--token-file", "it needs --server, the server that takes the token")),
            None => Ok(None),
        };
    };
    let token = match (token_file, variable(TOKEN)?, set(TOKEN_FILE)) {
        (Some(file), _, _) => Some(read_secret(file).map_err(|sentence| mistake("--token-file", sentence))?),
        (None, Some(_), Some(_)) => return Err(mistake(TOKEN, format!("it is set, and so is {TOKEN_FILE}; set one of the two"))),
        (None, Some(token), None) => Some(token.trim().to_owned()),
        (None, None, Some(file)) => Some(read_secret(Path::new(&file)).map_err(|sentence| mistake(TOKEN_FILE, sentence))?),
        (None, None, None) => None,
    };
    Ok(Some(RemoteServer { url, token: token.map(Secret::new) }))
}

fn mistake(name: &'static str, sentence: impl fmt::Display) -> RemoteMistake {
    RemoteMistake { name, sentence: sentence.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)], server: Option<&str>, file: Option<&Path>) -> Result<Option<(String, Option<String>)>, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        let remote = read(server, file, &variables).map_err(|mistake| mistake.to_string())?;
        Ok(remote.map(|remote| (remote.url, remote.token.map(|token| token.expose().to_owned()))))
    }

    #[test]
    fn the_flag_wins_over_the_variable_and_nothing_means_the_state_folder() {
        assert_eq!(with(&[], None, None), Ok(None));
        assert_eq!(with(&[(SERVER, ""), (TOKEN, "t")], None, None), Ok(None));
        let both = [(SERVER, "http://a"), (TOKEN, "secret")];
        assert_eq!(with(&both, None, None), Ok(Some(("http://a".to_owned(), Some("secret".to_owned())))));
        assert_eq!(with(&both, Some("http://b"), None), Ok(Some(("http://b".to_owned(), Some("secret".to_owned())))));
    }

    #[test]
    fn a_token_comes_from_one_place_and_no_sentence_shows_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "pct_abc\n").unwrap();
        let expected = Ok(Some(("http://a".to_owned(), Some("pct_abc".to_owned()))));
        assert_eq!(with(&[(TOKEN, "other")], Some("http://a"), Some(&file)), expected);
        assert_eq!(with(&[(TOKEN_FILE, file.to_str().unwrap())], Some("http://a"), None), expected);
        for (variables, file, word) in [
            (&[(TOKEN, "hush"), (TOKEN_FILE, "/x")][..], None, "one of the two"),
            (&[(TOKEN_FILE, "/nowhere")], None, "PORTCULLIS_TOKEN_FILE: the file"),
            (&[], Some(Path::new("/nowhere")), "--token-file: the file"),
        ] {
            let sentence = with(variables, Some("http://a"), file).unwrap_err();
            assert!(sentence.contains(word) && !sentence.contains("hush"), "{sentence}");
        }
        assert!(with(&[], None, Some(&file)).unwrap_err().contains("needs --server"));
    }
}
