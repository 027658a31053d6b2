//! The journal's own protocol: a socket in the machine takes what a journald would.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use wayhome_lab::needs_lab;
use wayhome_lab::net::GATEWAY;

use crate::seats::{Login, Running, SOON, Seats, wayhome};

type Entry = BTreeMap<String, String>;

/// Reads an entry: `NAME=value`, or a name alone, and the value with its length before it
/// (systemd's JOURNAL_NATIVE_PROTOCOL).
fn entry(mut bytes: &[u8]) -> Entry {
    let mut fields = Entry::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8(bytes[..end].to_vec()).unwrap();
        bytes = &bytes[end + 1..];
        match line.split_once('=') {
            Some((name, value)) => {
                fields.insert(name.to_owned(), value.to_owned());
            }
            None => {
                let (length, rest) = bytes.split_at(8);
                let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
                fields.insert(line, String::from_utf8(rest[..length].to_vec()).unwrap());
                bytes = &rest[length + 1..];
            }
        }
    }
    fields
}

/// What the journal is told until the road is proven.
fn until_proven(journal: &UnixDatagram) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut buffer = vec![0; 65536];
    journal.set_read_timeout(Some(SOON + Duration::from_secs(5))).unwrap();
    loop {
        let length = journal.recv(&mut buffer).unwrap();
        entries.push(entry(&buffer[..length]));
        if entries.last().and_then(|entry| entry.get("EVENT")).is_some_and(|e| e == "proven") {
            return entries;
        }
    }
}

#[test]
fn the_journal_gets_the_facts_and_no_second_time() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    fs::create_dir_all(home.file("/run/systemd/journal")).unwrap();
    let journal = UnixDatagram::bind(home.file("/run/systemd/journal/socket")).unwrap();
    let log = fs::File::create(home.file("/tmp/stderr")).unwrap();
    let stat = log.metadata().unwrap();
    let stream = format!("{}:{}", stat.dev(), stat.ino());
    let gateway = format!("root@{GATEWAY}");
    let arguments =
        ["agent", "run", &gateway, "-i", "/tmp/key", "--accept-new", "-R", "2222:localhost:22"];
    let run = |format: &[&str], stream: &str| {
        let mut command = wayhome(home, &[format, &arguments].concat());
        command.env("JOURNAL_STREAM", stream).stdout(Stdio::null());
        command.stderr(log.try_clone().unwrap());
        Running(command.spawn().unwrap())
    };
    let said = || fs::read_to_string(home.file("/tmp/stderr")).unwrap();

    let agent = run(&[], &stream);
    let entries = until_proven(&journal);
    assert_eq!(said(), "", "nothing is said twice");
    let proven = entries.last().unwrap();
    assert_eq!(proven["MESSAGE"].split_once(": ").unwrap().0, gateway, "no time stands before it");
    for (name, value) in [
        ("GATEWAY", gateway.as_str()),
        ("SERVICE", "ssh"),
        ("PORT", "2222"),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "wayhome"),
    ] {
        assert_eq!(proven[name], value, "{proven:?}");
    }
    assert!(proven["ROUND_TRIP_MS"].parse::<f64>().unwrap() > 0.0);
    let connected =
        entries.iter().find(|entry| entry.get("EVENT").is_some_and(|e| e == "connected"));
    assert_eq!(connected.unwrap()["ATTEMPT"], "1");
    drop(agent);

    // Standard error was led elsewhere since, or sentences were asked for: there they are.
    for (format, stream) in [(&[][..], "1:1"), (&["--log-format", "human"], &stream)] {
        fs::write(home.file("/tmp/stderr"), "").unwrap();
        let agent = run(format, stream);
        wayhome_lab::assert_eventually!(
            said().contains("is up: proven"),
            within = SOON,
            "{}",
            said()
        );
        let has_time = said().starts_with("20");
        assert_eq!(has_time, stream == "1:1", "the journal keeps the time: {}", said());
        drop(agent);
    }
}
