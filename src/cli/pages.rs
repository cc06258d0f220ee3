//! What shells and readers want: completions, the manual, the API's description.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Exit;
use super::terminal::Terminal;
use crate::http::owner;

/// What `completions` is asked.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// bash, zsh, fish, elvish or powershell
    #[arg(hide_possible_values = true)]
    shell: Shell,
}

/// What `man` is asked.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write a page for each command into this folder, which is made where it is missing
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs, mut command: Command, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "portcullis", &mut script);
    terminal.print_document(&script)?;
    Ok(Exit::Done)
}

pub(super) fn openapi(terminal: &mut Terminal) -> anyhow::Result<Exit> {
    terminal.print_document(owner::openapi_json().as_bytes())?;
    Ok(Exit::Done)
}

pub(super) fn man(args: &ManArgs, command: Command, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let Some(folder) = &args.dir else {
        terminal.print_document(&page(command, "portcullis")?)?;
        return Ok(Exit::Done);
    };
    std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    let mut command = command.disable_help_subcommand(true);
    // Building gives each command its full name, which its page is called by.
    command.build();
    let written = write_pages(&command, "portcullis", folder)?;
    terminal.say(&format!("Wrote {written} pages to {}.", folder.display()));
    Ok(Exit::Done)
}

fn write_pages(command: &Command, name: &str, folder: &Path) -> anyhow::Result<usize> {
    let path = folder.join(format!("{name}.1"));
    let page = page(command.clone(), name)?;
    std::fs::File::create(&path).and_then(|mut file| file.write_all(&page)).with_context(|| format!("writing {}", path.display()))?;
    let mut written = 1;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        written += write_pages(sub, &format!("{name}-{}", sub.get_name()), folder)?;
    }
    Ok(written)
}

fn page(command: Command, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(command).title(name.to_uppercase()).source(format!("portcullis {}", env!("CARGO_PKG_VERSION"))).manual("Portcullis");
    man.render(&mut page).context("writing a page of the manual")?;
    Ok(page)
}
