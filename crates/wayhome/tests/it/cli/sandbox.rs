//! A home of its own for a command: nothing of whoever runs the tests comes in.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde::Serialize;
use tempfile::TempDir;

/// What stands in the folder's place in what is shown; of the same length, so that lines break alike.
const SHOWN: &str = "/tmp/wayhome-FOLDER";

pub struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("wayhome-").rand_bytes(6).tempdir_in("/tmp");
        let sandbox = Self { folder: folder.unwrap() };
        for folder in ["home", "state", "run"] {
            fs::create_dir(sandbox.path(folder)).unwrap();
        }
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> &Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    /// A program with this environment and no other, in this folder.
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("STATE_DIRECTORY", self.path("state"))
            .env("RUNTIME_DIRECTORY", self.path("run"))
            .env("USER", "fan")
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .env("COLUMNS", "80")
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// wayhome.
    pub fn wayhome(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_wayhome"));
        command.args(arguments);
        command
    }

    /// What a person sees who types this: the streams and the exit code, plain and in colours.
    pub fn seen(&self, arguments: &[&str]) -> String {
        let plain = self.wayhome(arguments).output().unwrap();
        let coloured = self.wayhome(arguments).env("CLICOLOR_FORCE", "1").output().unwrap();
        for (plain, coloured) in
            [(&plain.stdout, &coloured.stdout), (&plain.stderr, &coloured.stderr)]
        {
            assert_eq!(text(plain), stripped(&text(coloured)), "colours change no word");
            assert!(!text(plain).contains('\u{1b}'));
        }
        let line = arguments.join(" ");
        let plain = self.shown(&plain);
        let coloured = self.shown(&coloured).replace('\u{1b}', "␛");
        let mut seen = format!("$ wayhome {line}\n{plain}");
        if coloured != plain {
            seen += &format!("\n$ CLICOLOR_FORCE=1 wayhome {line}\n{coloured}");
        }
        seen
    }

    fn shown(&self, output: &Output) -> String {
        let mut shown = text(&output.stdout);
        if !output.stderr.is_empty() {
            shown += &format!("(stderr)\n{}", text(&output.stderr));
        }
        shown += &format!("(exit status {})\n", output.status.code().unwrap());
        shown.replace(&self.folder.path().display().to_string(), SHOWN)
    }

    /// Answers for the agent of the home with this name, whatever it is asked.
    pub fn answer(&self, name: &str, answer: &impl Serialize) {
        let path = self.path("run").join(format!("agent-{name}.sock"));
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        let answer = serde_json::to_string(answer).unwrap();
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut asked = String::new();
                let _ = stream.read_line(&mut asked);
                let _ = stream.get_mut().write_all(answer.as_bytes());
            }
        });
    }

    /// A key pair, `NAME` and `NAME.pub`.
    pub fn key(&self, name: &str, passphrase: &str) {
        let mut keygen = self.program("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-C", name, "-N", passphrase, "-f", name]);
        assert!(keygen.status().unwrap().success());
    }
}

/// Compares with what was seen and approved before.
#[track_caller]
pub fn assert_seen(name: &str, seen: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, seen));
}

/// No line is wider than the 80 columns that `COLUMNS` says.
#[track_caller]
pub fn assert_narrow(output: &Output) {
    for line in text(&output.stdout).lines().chain(text(&output.stderr).lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Without what colours a text.
pub fn stripped(text: &str) -> String {
    let mut plain = String::new();
    for (number, piece) in text.split("\u{1b}[").enumerate() {
        match piece.split_once('m') {
            Some((_, rest)) if number > 0 => plain.push_str(rest),
            _ => plain.push_str(piece),
        }
    }
    plain
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    found.is_ok_and(|output| output.status.success())
}
