//! `wayhome connect`: the program itself, with pipes, sockets and files, and with `ssh` around it.

mod road;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::process::{Pid, Signal, kill_process};
use wayhome_core::key::Key;
use wayhome_core::refusal::{Reason, Refusal, Speaker};
use wayhome_lab::{Here, OpenSsh, Sshd, assert_eventually, keys};

use road::{Laptop, Road};

const SOON: Duration = Duration::from_secs(20);

/// Bytes that do not repeat soon.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()[7]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn piped(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn read_all(mut from: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).unwrap();
    all
}

/// Its exit code, and what is left on its streams.
fn ended(child: Child) -> (i32, Vec<u8>, String) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), output.stdout, said)
}

#[test]
fn bytes_go_both_ways_through_pipes_sockets_and_files() {
    let road = Road::start();
    let laptop = Laptop::of(&road, &["home-ubuntu"]);
    let sent = noise(3_000_000);
    let connect = || laptop.wayhome(&["connect", "home-ubuntu:echo"]);

    // The answer comes after the end of what was sent: the end of one direction is not the other's.
    let (there, here) = std::io::pipe().unwrap();
    let (back, answer) = std::io::pipe().unwrap();
    let flags = |pipe: &OwnedFd| fcntl_getfl(pipe).unwrap();
    let theirs: [OwnedFd; 2] =
        [there.try_clone().unwrap().into(), answer.try_clone().unwrap().into()];
    let mut child = connect().stdin(there).stdout(answer).spawn().unwrap();
    let (mut writer, bytes) = (here, sent.clone());
    let writing = thread::spawn(move || writer.write_all(&bytes).unwrap());
    writing.join().unwrap();
    for descriptor in &theirs {
        assert!(!flags(descriptor).contains(OFlags::NONBLOCK), "others hold it too");
    }
    drop(theirs);
    assert!(read_all(back) == sent, "through pipes");
    assert_eq!(child.wait().unwrap().code(), Some(0));

    // One socket for both, as a super-server or socat has it.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let descriptor = || OwnedFd::from(theirs.try_clone().unwrap());
    let mut child = connect().stdin(descriptor()).stdout(descriptor()).spawn().unwrap();
    let (mut writer, bytes) = (ours.try_clone().unwrap(), sent.clone());
    let writing = thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert!(read_all(&ours) == sent, "through a socket");
    writing.join().unwrap();
    assert!(!fcntl_getfl(&theirs).unwrap().contains(OFlags::NONBLOCK), "others hold it too");
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let (from, to) = (laptop.path("from"), laptop.path("to"));
    fs::write(&from, &sent).unwrap();
    let status =
        connect().stdin(File::open(from).unwrap()).stdout(File::create(&to).unwrap()).status();
    assert_eq!(status.unwrap().code(), Some(0));
    assert!(fs::read(to).unwrap() == sent, "through files");

    let shown: Key = laptop.keys(&["keys"]).parse().unwrap();
    let seen = road.clients.lock().unwrap().clone();
    assert_eq!(seen, [shown; 3], "the home has seen this machine's key each time");
}

#[test]
fn an_end_from_home_is_passed_on_and_what_is_sent_still_arrives() {
    let road = Road::start();
    let laptop = Laptop::of(&road, &["home-ubuntu"]);
    let mut child = piped(laptop.wayhome(&["connect", "home-ubuntu:ear"]));
    assert_eq!(read_all(child.stdout.take().unwrap()), b"done", "and then its end");
    child.stdin.take().unwrap().write_all(b"still here").unwrap();
    assert_eq!(ended(child), (0, vec![], String::new()));
    assert_eventually!(road.heard("ear") == b"still here", within = SOON);
}

#[test]
fn one_direction_does_not_wait_for_the_other() {
    let road = Road::start();
    let laptop = Laptop::of(&road, &["home-ubuntu"]);
    let sent = noise(10_000_000);
    let mut child = piped(laptop.wayhome(&["connect", "home-ubuntu:both"]));
    // The home speaks all the time, and nobody listens.
    child.stdin.take().unwrap().write_all(&sent).unwrap();
    assert_eventually!(road.heard("both").len() == sent.len(), within = SOON);
    assert!(road.heard("both") == sent);
    // The home hung up in the middle.
    read_all(child.stdout.take().unwrap());
    let (code, _, said) = ended(child);
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
}

#[test]
fn a_cut_is_not_taken_for_an_end() {
    let road = Road::start();
    let laptop = Laptop::of(&road, &["home-ubuntu"]);
    for service in ["cut", "reset"] {
        let mut child = piped(laptop.wayhome(&["connect", &format!("home-ubuntu:{service}")]));
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        let (code, written, said) = ended(child);
        assert_eq!((code, written.as_slice()), (1, &b"half"[..]), "{service}: {said}");
        let cut = format!("wayhome: the stream to home-ubuntu:{service} was cut: ");
        assert!(said.starts_with(&cut) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn another_agent_in_the_homes_place_is_refused() {
    let road = Road::start();
    let laptop = Laptop::of(&road, &["imposter"]);
    let (code, written, said) = laptop.connect(&["imposter"]);
    assert_eq!((code, written.len(), said.lines().count()), (1, 0, 1), "{said}");
    let shown = format!("shows the key `{}`, which is not the pinned one", road.imposter);
    assert!(said.starts_with("wayhome: who answers for imposter at ") && said.contains(&shown));
    assert!(said.contains("`wayhome keys unpin imposter`"), "{said}");
    assert!(road.clients.lock().unwrap().is_empty(), "and nothing was sent, not even our key");
}

#[test]
fn nothing_is_written_before_the_home_has_proven_its_key() {
    let road = Road::start();
    let laptop = Laptop::of(&road, &["nonsense", "endless", "hangs-up"]);
    for (home, part) in [
        ("nonsense", "does not belong to this stream"),
        ("endless", "a first flight that is too long"),
        ("hangs-up", "it ended in the middle"),
    ] {
        let (code, written, said) = laptop.connect(&[home]);
        assert_eq!((code, written.len(), said.lines().count()), (1, 0, 1), "{home}: {said}");
        assert!(said.starts_with("wayhome: ") && said.contains(part), "{home}: {said}");
    }
}

#[test]
fn another_gateway_key_is_refused() {
    let road = Road::start();
    let laptop = Laptop::of(&road, &["home-ubuntu"]);
    laptop.keys(&["keys", "unpin", &road.address()]);
    laptop.pin(&road.address(), road.imposter);
    let (code, written, said) = laptop.connect(&["home-ubuntu:echo"]);
    assert_eq!((code, written.len(), said.lines().count()), (1, 0, 1), "{said}");
    let shown = format!("wayhome: the gateway {} shows the key `{}`", road.address(), road.gateway);
    assert!(said.starts_with(&shown), "{said}");
    assert!(said.contains(&format!("`wayhome keys unpin {}`", road.address())), "{said}");
}

#[test]
fn each_refusal_is_told_in_one_line() {
    let road = Road::start();
    let homes: Vec<String> = (0..Reason::ALL.len()).map(|n| format!("refused-{n}")).collect();
    let homes: Vec<&str> = homes.iter().map(String::as_str).collect();
    let laptop = Laptop::of(&road, &[&homes[..], &["home-ubuntu"]].concat());
    for (reason, name) in Reason::ALL.into_iter().zip(&homes) {
        let ssh = "ssh".parse().unwrap();
        // By the gateway; with the stranger's words once.
        let refusal = Refusal {
            reason,
            detail: if reason == Reason::Full { road::DETAIL } else { "" }.into(),
            last_seen: (reason == Reason::Offline).then_some(Duration::from_secs(250)),
        };
        let line = refusal.line(Speaker::Gateway, &name.parse().unwrap(), &ssh);
        assert_eq!(laptop.connect(&[name]), (1, vec![], format!("wayhome: {line}\n")));
        // And by the home.
        let refusal = Refusal { detail: road::DETAIL.into(), last_seen: None, ..refusal };
        let (home, service) = ("home-ubuntu".parse().unwrap(), name.parse().unwrap());
        let line = refusal.line(Speaker::Home, &home, &service);
        let said = laptop.connect(&[&format!("home-ubuntu:{name}")]);
        assert_eq!(said, (1, vec![], format!("wayhome: {line}\n")));
        assert!(said.2.contains("(]0;owned in the cellar)"), "{}", said.2);
    }
    let (_, _, said) = laptop.connect(&["refused-7"]);
    assert_eq!(said, "wayhome: refused-7 is offline, last seen 4 minutes ago\n");
}

#[test]
fn a_refusal_is_told_also_if_much_was_sent_already() {
    let road = Road::start();
    let laptop = Laptop::of(&road, &["home-ubuntu"]);
    let mut child = piped(laptop.wayhome(&["connect", "home-ubuntu:refused-11"]));
    let mut stdin = child.stdin.take().unwrap();
    // It ends while we write.
    let writing = thread::spawn(move || while stdin.write_all(&[7; 65536]).is_ok() {});
    let (code, written, said) = ended(child);
    writing.join().unwrap();
    assert_eq!((code, written.len()), (1, 0), "{said}");
    assert!(said.starts_with("wayhome: home-ubuntu has no service `refused-11`"), "{said}");
}

#[test]
fn of_several_gateways_the_first_that_answers_wins() {
    let road = Road::start();
    let laptop = Laptop::of(&road, &["home-ubuntu", "refused-7"]);
    // One that is dead, one that accepts and says nothing.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let [dead, slow] =
        [dead, slow.local_addr().unwrap()].map(|address| format!("wayhome://{address}"));
    laptop.pin(&dead, road.imposter);
    laptop.pin(&slow, road.imposter);
    let through = |gateways: &[&str], goal: &str| {
        let began = Instant::now();
        let gateways = gateways.iter().flat_map(|gateway| ["--gateway", gateway]);
        let arguments: Vec<&str> = gateways.chain([goal]).collect();
        let (code, _, said) = laptop.connect(&arguments);
        (code, said, began.elapsed())
    };
    for first in [&dead, &slow] {
        let (code, said, took) = through(&[first, &road.address()], "home-ubuntu:echo");
        assert_eq!((code, said.as_str()), (0, ""));
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    // Who refused has more to say than who could not be reached, whatever the order.
    for gateways in [[&dead, &road.address()], [&road.address(), &dead]] {
        let (code, said, _) = through(&gateways.map(String::as_str), "refused-7");
        assert_eq!(code, 1);
        assert_eq!(said, "wayhome: refused-7 is offline, last seen 4 minutes ago\n");
    }
    let (code, said, _) = through(&[&dead], "home-ubuntu");
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert!(
        said.starts_with(&format!("wayhome: the gateway {dead} cannot be reached: ")),
        "{said}"
    );
    // Without a choice all that are pinned are tried.
    assert_eq!(laptop.connect(&["home-ubuntu:echo"]).0, 0);
}

#[test]
fn what_is_missing_is_said_before_anything_is_tried() {
    let road = Road::start();
    let laptop = Laptop::of(&road, &["home-ubuntu"]);
    let said = |arguments: &[&str]| {
        let (code, written, said) = laptop.connect(arguments);
        assert_eq!((code, written.len(), said.lines().count()), (2, 0, 1), "{said}");
        said
    };
    assert!(said(&["attic"]).starts_with("wayhome: `attic` is not pinned here; `wayhome keys pin"));
    let other = said(&["--gateway", "wayhome://gw.example.org", "home-ubuntu"]);
    assert!(
        other.starts_with("wayhome: `wayhome://gw.example.org` is not pinned here; "),
        "{other}"
    );
    let key = said(&["-i", "/nowhere/key", "home-ubuntu"]);
    assert!(key.contains("`/nowhere/key` cannot be read"), "{key}");
    laptop.keys(&["keys", "unpin", &road.address()]);
    assert!(said(&["home-ubuntu"]).starts_with("wayhome: no gateway is pinned here; "));
    fs::remove_file(laptop.path("identity")).unwrap();
    let none = said(&["home-ubuntu"]);
    assert!(none.contains("no key of its own yet; `wayhome keys` makes one"), "{none}");
    assert!(road.clients.lock().unwrap().is_empty());
}

#[test]
fn a_signal_ends_it_at_once_and_so_does_a_reader_who_is_gone() {
    let road = Road::start();
    let laptop = Laptop::of(&road, &["silent", "home-ubuntu"]);
    for (signal, goal) in [
        (Signal::INT, "silent"),
        (Signal::TERM, "home-ubuntu:quiet"),
        (Signal::HUP, "home-ubuntu:both"),
    ] {
        let seen = road.clients.lock().unwrap().len();
        let mut child = piped(laptop.wayhome(&["connect", goal]));
        if goal != "silent" {
            assert_eventually!(road.clients.lock().unwrap().len() > seen, within = SOON);
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let began = Instant::now();
        assert!(!child.wait().unwrap().success());
        assert!(began.elapsed() < Duration::from_secs(2), "{goal}");
    }
    let mut child = piped(laptop.wayhome(&["connect", "home-ubuntu:source-1000"]));
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 10]).unwrap();
    drop(child.stdout.take());
    let (code, _, said) = ended(child);
    assert_eq!((code, said.as_str()), (1, ""), "nobody is there any more who wants to know");
}

#[test]
fn ssh_goes_through_it() {
    let openssh = OpenSsh::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = keys::Key::make(&Here, &openssh, &folder.path().join("key"), "laptop").unwrap();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let user = user.trim();
    let sshd = Sshd::builder(&openssh).authorize(user, key.public_line()).start(&Here).unwrap();
    let road = Road::to_sshd(Some(sshd.port()));
    let laptop = Laptop::of(&road, &["home-ubuntu", "refused-7"]);
    let known = folder.path().join("known_hosts");
    let line = format!("home-ubuntu {0}\nrefused-7 {0}\n", sshd.host_key_line());
    fs::write(&known, line).unwrap();
    let ssh = |home: &str, program: &Path| {
        let mut ssh = Command::new(openssh.ssh());
        let connect = env!("CARGO_BIN_EXE_wayhome");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]);
        ssh.arg("-o").arg(format!("ProxyCommand={connect} connect %h"));
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
        ssh.arg("-i").arg(key.path()).args(["-l", user, home]).arg(program);
        ssh.env("STATE_DIRECTORY", laptop.path(""));
        ssh
    };
    let sent = noise(2_000_000);
    let mut child = piped(ssh("home-ubuntu", Path::new("cat; exit 7")));
    let (mut stdin, bytes) = (child.stdin.take().unwrap(), sent.clone());
    let writing = thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let (code, written, said) = ended(child);
    writing.join().unwrap();
    assert_eq!(code, 7, "{said}");
    assert!(written == sent);
    // And a person who cannot get home reads why.
    let (code, _, said) = ended(piped(ssh("refused-7", Path::new("true"))));
    assert_eq!(code, 255);
    assert!(said.starts_with("wayhome: refused-7 is offline, last seen 4 minutes ago\n"), "{said}");
}

#[test]
fn ssh_config_installs_it_of_the_pins_and_ssh_learns_the_first_host_key() {
    let openssh = OpenSsh::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = keys::Key::make(&Here, &openssh, &folder.path().join("key"), "laptop").unwrap();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let user = user.trim();
    let sshd = Sshd::builder(&openssh).authorize(user, key.public_line());
    let (first, second) = (sshd.start(&Here).unwrap(), sshd.start(&Here).unwrap());
    let roads = [&first, &second].map(|sshd| Road::to_sshd(Some(sshd.port())));
    let known = folder.path().join("known_hosts");
    let home = folder.path();
    let ssh_config = |laptop: &Laptop, arguments: &[&str]| {
        let mut command = laptop.wayhome(&[&["ssh-config"], arguments].concat());
        let output = command.env("HOME", home).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let logged_in = |laptop: &Laptop| {
        let mut ssh = Command::new(openssh.ssh());
        ssh.arg("-F").arg(home.join(".ssh/wayhome/home-ubuntu.conf"));
        ssh.args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"]).arg(key.path());
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
        ssh.args(["home-ubuntu", "echo in"]).env("STATE_DIRECTORY", laptop.path(""));
        ended(piped(ssh))
    };

    let laptop = Laptop::of(&roads[0], &["home-ubuntu"]);
    let (code, _, said) = ssh_config(&laptop, &["--connect", "attic"]);
    assert!(code == 2 && said.contains("`attic` is not pinned here"), "{said}");
    let connect = ["--connect", "home-ubuntu", "--user", user];
    let (code, shown, said) = ssh_config(&laptop, &[&connect[..], &["--dry-run"]].concat());
    assert!(code == 0 && shown.contains("    Host home-ubuntu\n"), "{shown}{said}");
    assert!(!home.join(".ssh").exists(), "a dry run writes nothing");
    let (code, _, said) = ssh_config(&laptop, &connect);
    let leads = "`home-ubuntu` leads to `home-ubuntu` through any gateway that is pinned, as";
    assert!(code == 0 && said.contains(leads), "{said}");

    // The first key is the home's own, for the home has proven its pin; another one later is not.
    let (code, written, said) = logged_in(&laptop);
    assert_eq!((code, written.as_slice()), (0, &b"in\n"[..]), "{said}");
    let learned = fs::read_to_string(&known).unwrap();
    assert!(learned.contains(&format!("home-ubuntu {}", first.host_key_line())), "{learned}");
    let (code, _, said) = logged_in(&Laptop::of(&roads[1], &["home-ubuntu"]));
    assert!(code == 255 && said.contains("HOST IDENTIFICATION HAS CHANGED"), "{said}");

    let (code, _, said) = ssh_config(&laptop, &["--remove", "home-ubuntu"]);
    assert_eq!(code, 0, "{said}");
    assert!(!home.join(".ssh/wayhome").exists());
}
