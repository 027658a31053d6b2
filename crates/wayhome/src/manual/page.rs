//! Pages for man(1): one for the program, one for each command, and one for `agent.toml`.
//!
//! Names, synopses, options and descriptions come from the command line's definition, examples from
//! the help that shows them.

use std::io::{self, Write};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::keys::{self, KEYS, Key, TABLES};
use super::surroundings::{ENVIRONMENT, Entry, FILES};
use super::{commands, exit};

/// A page.
#[derive(Debug)]
pub struct Page {
    /// What `man` is asked for: `wayhome-agent-run`.
    pub name: String,
    /// The section of the manual: 1 for commands, 5 for files.
    pub section: u8,
    /// The text, for `man -l`.
    pub text: Vec<u8>,
}

impl Page {
    /// The name of its file.
    pub fn file(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }
}

/// All pages.
pub fn all(definition: Command) -> io::Result<Vec<Page>> {
    let version = definition.get_version().unwrap_or_default().to_owned();
    // Else each page would tell of a command `help`, and each one below it of its page.
    let mut definition = definition.disable_help_subcommand(true);
    definition.build();
    let commands = commands(&definition);
    let mut pages = Vec::new();
    for (path, command) in &commands {
        let below = commands.iter().filter(|(other, _)| parent(other) == Some(path));
        let below: Vec<String> = below.map(|(other, _)| page_name(other)).collect();
        pages.push(of_command(path, command, &below, &version)?);
    }
    pages.push(of_configuration(&version)?);
    Ok(pages)
}

/// The name of a command's page.
fn page_name(path: &str) -> String {
    format!("wayhome {path}").trim_end().replace(' ', "-")
}

/// The command above; `None` for the program.
fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once(' ') {
        Some((parent, _)) => Some(parent),
        None if path.is_empty() => None,
        None => Some(""),
    }
}

fn of_command(path: &str, command: &Command, below: &[String], version: &str) -> io::Result<Page> {
    let name = page_name(path);
    let mut text = Vec::new();
    title(&mut text, &name, 1, version)?;
    let man = Man::new(command.clone());
    man.render_name_section(&mut text)?;
    synopsis(&mut text, command)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let mut more = Roff::new();
    examples(&mut more, command);
    if path.is_empty() || !command.has_subcommands() {
        more.control("SH", ["EXIT STATUS"]);
        for (code, means) in exit::of(path).iter().enumerate() {
            item(&mut more, &code.to_string(), &format!("{means}."));
        }
    }
    surroundings(&mut more, "FILES", FILES, path);
    surroundings(&mut more, "ENVIRONMENT", ENVIRONMENT, path);
    let above = parent(path).map(page_name);
    let mut also: Vec<(&str, u8)> = above.iter().map(|name| (name.as_str(), 1)).collect();
    also.extend(below.iter().map(|name| (name.as_str(), 1)));
    if path.is_empty() || path.starts_with("agent") {
        also.push(("wayhome-agent.toml", 5));
    }
    also.extend([("ssh", 1), ("ssh_config", 5), ("sshd", 8)]);
    see_also(&mut more, &also);
    more.to_writer(&mut text)?;
    Ok(Page { name, section: 1, text })
}

fn of_configuration(version: &str) -> io::Result<Page> {
    let name = "wayhome-agent.toml".to_owned();
    let mut text = Vec::new();
    title(&mut text, &name, 5, version)?;
    let mut page = Roff::new();
    page.control("SH", ["NAME"]);
    page.text([roman("wayhome-agent.toml - the configuration of wayhome's agent")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text(words(
        "The file that `wayhome agent run --config` reads, in TOML. It is read and checked as a \
         whole before anything is dialled; an error names the file and the line. An unknown key is \
         an error. A path may begin with `~/`; a relative one is meant from the file's own folder.",
    ));
    for (table, about) in TABLES {
        let heading = if table.is_empty() { "TOP OF THE FILE" } else { table };
        match *table {
            "" => page.control("SH", [heading]),
            table => page.control("SH", [format!("[[{table}]]").as_str()]),
        };
        page.text(words(about));
        for Key { name, example, means, without, .. } in KEYS.iter().filter(|k| k.table == *table) {
            let without = match *without {
                keys::NEEDED => "It must be there.".to_owned(),
                other => format!("Without it: {other}."),
            };
            item(&mut page, &format!("{name} = {example}"), &format!("{means}. {without}"));
        }
    }
    page.control("SH", ["EXAMPLES"]);
    code(&mut page, EXAMPLE.lines());
    see_also(&mut page, &[("wayhome", 1), ("wayhome-agent-run", 1), ("ssh_config", 5)]);
    page.to_writer(&mut text)?;
    Ok(Page { name, section: 5, text })
}

/// A whole configuration. It is read by a test, as the program would.
pub const EXAMPLE: &str = r#"name = "home-ubuntu"

[[gateway]]
address = "ssh://root@203.0.113.10"
identity = "~/.ssh/wayhome"

[[service]]
name = "ssh"
target = "localhost:22"
port = 2222

[[service]]
name = "web"
target = "localhost:80"
port = 8080
proof = "http""#;

fn title(out: &mut dyn Write, name: &str, section: u8, version: &str) -> io::Result<()> {
    // By hand, for roff leaves an empty argument out. There is no date, so that the same source
    // makes the same page.
    let name = name.to_uppercase();
    writeln!(out, ".TH \"{name}\" \"{section}\" \"\" \"wayhome {version}\" \"Wayhome Manual\"")
}

/// How it is called, as its help has it; clap_mangen would list each option without its value.
fn synopsis(out: &mut dyn Write, command: &Command) -> io::Result<()> {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    let mut page = Roff::new();
    page.control("SH", ["SYNOPSIS"]);
    for (number, line) in usage.lines().enumerate() {
        if number > 0 {
            page.control("br", []);
        }
        let at = line.find(['[', '<']).unwrap_or(line.len());
        let (called, rest) = line.split_at_checked(at).unwrap_or((line, ""));
        page.text([bold(called.trim_start()), roman(rest)]);
    }
    page.to_writer(out)
}

/// The examples of the command's help: the lines that are two columns in.
fn examples(page: &mut Roff, command: &Command) {
    let Some(help) = command.get_after_help().map(ToString::to_string) else { return };
    page.control("SH", ["EXAMPLES"]);
    code(page, help.lines().filter_map(|line| line.strip_prefix("  ")));
}

fn code<'a>(page: &mut Roff, lines: impl Iterator<Item = &'a str>) {
    page.control("nf", []);
    for line in lines {
        page.text([roman(line)]);
    }
    page.control("fi", []);
}

fn surroundings(page: &mut Roff, heading: &str, entries: &[Entry], path: &str) {
    let entries: Vec<&Entry> = entries.iter().filter(|entry| entry.is_for(path)).collect();
    if entries.is_empty() {
        return;
    }
    page.control("SH", [heading]);
    for entry in entries {
        item(page, entry.name, entry.text);
    }
}

fn see_also(page: &mut Roff, pages: &[(&str, u8)]) {
    page.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (name, section) in pages {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(*name), roman(format!("({section})"))]);
    }
    page.text(line);
}

/// A name, and below it what it is.
fn item(page: &mut Roff, name: &str, text: &str) {
    page.control("TP", []);
    page.text([bold(name)]);
    page.text(words(text));
}

/// What stands in backticks is shown in italics.
fn words(text: &str) -> Vec<Inline> {
    let pieces = text.split('`').enumerate();
    pieces.map(|(at, piece)| if at % 2 == 1 { italic(piece) } else { roman(piece) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    #[test]
    fn each_command_has_a_page() {
        let pages = all(cli::definition()).unwrap();
        let names: Vec<String> = pages.iter().map(Page::file).collect();
        for name in ["wayhome.1", "wayhome-agent.1", "wayhome-agent-run.1", "wayhome-agent.toml.5"]
        {
            assert!(names.contains(&name.to_owned()), "{names:?}");
        }
        assert_eq!(names.len(), commands(&cli::definition()).len() + 1);
        for page in &pages {
            let text = String::from_utf8(page.text.clone()).unwrap();
            let mut wanted = vec![".SH NAME", ".SH DESCRIPTION", ".SH \"SEE ALSO\""];
            if page.section == 1 {
                wanted.extend([".SH SYNOPSIS", ".SH OPTIONS", ".SH ENVIRONMENT"]);
            }
            for section in wanted {
                assert!(text.contains(section), "{}: no {section} in\n{text}", page.name);
            }
        }
    }
}
