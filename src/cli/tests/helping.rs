//! What the commands say of themselves.

use clap::Command as Clap;

use super::super::text::width;
use super::*;

/// A screen as people have it.
const ROWS: usize = 24;
const COLUMNS: usize = 80;

fn each(command: &mut Clap, name: &str, look: &mut impl FnMut(&str, &mut Clap)) {
    look(name, command);
    // What is hidden is no command of people's: the server starts it itself.
    let subs = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
    for sub in subs.map(|sub| sub.get_name().to_owned()).collect::<Vec<String>>() {
        let full = format!("{name} {sub}");
        each(command.find_subcommand_mut(&sub).unwrap(), &full, look);
    }
}

fn all(look: &mut impl FnMut(&str, &mut Clap)) -> usize {
    let mut command = command_line().term_width(COLUMNS);
    command.build();
    let mut count = 0;
    each(&mut command, "portcullis", &mut |name, command| {
        count += 1;
        look(name, command);
    });
    count
}

#[test]
fn every_help_fits_a_screen_and_has_an_example() {
    let count = all(&mut |name, command| {
        let help = command.render_help().to_string();
        let lines: Vec<&str> = help.trim_end().lines().collect();
        assert!(lines.len() <= ROWS, "{name} -h has {} lines:\n{help}", lines.len());
        assert!(lines.iter().all(|line| width(line) <= COLUMNS), "{name} -h is too wide:\n{help}");
        assert!(
            help.contains(&format!("Example: {}", name.split(' ').take(2).collect::<Vec<_>>().join(" "))),
            "{name} -h has no example:\n{help}"
        );
        assert!(command.render_long_help().to_string().contains("Example"), "{name} --help has no example");
        // The whole program's fits as it is; that of `serve` lists the settings.
        let is_short = |arg: &clap::Arg| arg.get_long() == Some("help") && matches!(arg.get_action(), clap::ArgAction::HelpShort);
        assert!(matches!(name, "portcullis" | "portcullis serve") || command.get_arguments().any(is_short), "{name} --help is long");
    });
    assert!(count > 25, "{count} commands");
}

#[test]
fn the_first_help_names_every_command_and_the_long_one_every_exit_code() {
    let mut command = Cli::command();
    let (short, long) = (command.render_help().to_string(), command.render_long_help().to_string());
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let is_named = short.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == sub.get_name());
        assert!(is_named, "{} is not named:\n{short}", sub.get_name());
    }
    for exit in [Exit::Error, Exit::Usage, Exit::Expired, Exit::Stalled, Exit::Revoked, Exit::SourceChanged, Exit::NoServer, Exit::Failed] {
        assert!(long.contains(&format!("{} ", exit as u8)), "{exit:?}:\n{long}");
    }
    assert!(long.contains("130 interrupted") && long.contains("PORTCULLIS_SERVER"));
}

#[test]
fn every_example_is_a_command_that_makes_sense() {
    all(&mut |name, command| {
        let help = command.render_help().to_string();
        let example = help.lines().find_map(|line| line.strip_prefix("Example: ")).unwrap();
        // Up to what is the shell's, or a remark.
        let example = example.split([' ', '\n']).take_while(|word| !matches!(*word, "|" | ">") && !word.starts_with('('));
        let mut words: Vec<String> = Vec::new();
        for word in example.filter(|word| !word.is_empty()) {
            match words.last_mut() {
                Some(open) if open.matches('"').count() == 1 => *open += &format!(" {word}"),
                _ => words.push(word.to_owned()),
            }
        }
        let words: Vec<String> = words.into_iter().map(|word| word.trim_matches('"').replace("5b1f…", &"5b".repeat(32))).collect();
        if let Err(error) = Cli::try_parse_from(&words) {
            panic!("{name}: {words:?}: {error}");
        }
    });
}

#[test]
fn what_speaks_to_the_server_takes_the_same_flags() {
    let alone = ["serve", "check", "config", "nginx-config", "backup", "restore", "migrate", "openapi", "completions", "man", "help"];
    all(&mut |name, command| {
        let is_alone = alone.iter().any(|word| name.split(' ').nth(1) == Some(*word));
        if name == "portcullis" || is_alone || (command.has_subcommands() && name != "portcullis audit") {
            return;
        }
        for flag in ["server", "token-file", "state-dir"] {
            assert!(command.get_arguments().any(|arg| arg.get_long() == Some(flag)), "{name} has no --{flag}");
        }
        assert!(command.get_arguments().all(|arg| arg.get_long() != Some("token")), "{name}: a secret may not be a flag");
    });
}

#[tokio::test]
async fn completions_and_the_manual_are_there() {
    let ran = async |line: &[&str]| {
        let (out, err) = (Written::default(), Written::default());
        let mut terminal = Terminal::new(Box::new(out.clone()), Box::new(err.clone()), false);
        let exit = run(Cli::try_parse_from(["portcullis"].iter().chain(line)).unwrap().command, &mut terminal).await;
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        (exit, text)
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (exit, script) = ran(&["completions", shell]).await;
        assert!(exit == Exit::Done && script.contains("extend") && script.contains("portcullis"), "{shell}");
    }
    let (exit, document) = ran(&["openapi"]).await;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert!(exit == Exit::Done && document["paths"]["/api/v1/shares"].is_object(), "{document}");
    let (exit, page) = ran(&["man"]).await;
    assert!(exit == Exit::Done && page.contains(".TH PORTCULLIS 1"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    assert_eq!(ran(&["man", "--dir", pages.to_str().unwrap()]).await.0, Exit::Done);
    let mut names = vec!["portcullis".to_owned()];
    all(&mut |name, _| names.push(name.replace(' ', "-")));
    for name in names {
        let page = std::fs::read_to_string(pages.join(format!("{name}.1"))).unwrap_or_else(|error| panic!("{name}.1: {error}"));
        assert!(
            page.contains(&format!(".TH {} 1", name.to_uppercase().replace('-', "\\-")))
                || page.contains(&format!(".TH {} 1", name.to_uppercase())),
            "{page}"
        );
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(ran(&["man", "--dir", file.to_str().unwrap()]).await.0, Exit::Error);
}
