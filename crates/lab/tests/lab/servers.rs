//! OpenSSH servers: here and in a machine, as root and as a plain user, with PAM and without, old and
//! new.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use wayhome_lab::keys::Key;
use wayhome_lab::openssh::Version;
use wayhome_lab::{Here, Host, Machine, OpenSsh, Sshd, assert_eventually, needs_lab};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_server_here_lets_its_key_in_and_ends_whole() {
    let openssh = OpenSsh::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = Key::make(&Here, &openssh, &folder.path().join("key"), "me").unwrap();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let user = user.trim();
    let sshd = Sshd::builder(&openssh).authorize(user, key.public_line()).start(&Here).unwrap();

    let known = folder.path().join("known_hosts");
    std::fs::write(&known, sshd.known_hosts_line("127.0.0.1")).unwrap();
    let login = |command: &str| {
        let mut ssh = ssh(&Here, &openssh, &key, &known);
        ssh.args(["-p", &sshd.port().to_string(), &format!("{user}@127.0.0.1"), command]);
        ssh
    };
    assert_said(&login("echo in").output().unwrap(), "in\n", &sshd);

    let mut session = login("echo $PPID; exec sleep 4713").stdout(Stdio::piped()).spawn().unwrap();
    assert_eventually!(sshd.log().matches("Starting session").count() == 2, within = SOON);
    let pid = sshd.pid();
    sshd.stop();
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the server is left");
    assert_eventually!(session.try_wait().unwrap().is_some(), within = SOON, "a session is left");
}

#[test]
fn a_port_that_is_taken_is_told() {
    let openssh = OpenSsh::system().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Sshd::builder(&openssh).port(port).start(&Here).unwrap_err().to_string();
    assert!(error.contains("Address already in use"), "{error}");
}

#[test]
fn a_wrong_line_is_told() {
    let openssh = OpenSsh::system().unwrap();
    let error = Sshd::builder(&openssh).line("NoSuchOption yes").start(&Here).unwrap_err();
    assert!(error.to_string().contains("NoSuchOption"), "{error}");
}

#[test]
fn a_given_host_key_is_used_again() {
    let openssh = OpenSsh::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = Key::make(&Here, &openssh, &folder.path().join("host"), "").unwrap();
    let private = std::fs::read_to_string(key.path()).unwrap();
    let sshd = Sshd::builder(&openssh).host_key(&private).start(&Here).unwrap();
    assert_eq!(sshd.host_key_line(), key.public_line());
    let scan = Command::new(openssh.ssh_keyscan())
        .args(["-t", "ed25519", "-p", &sshd.port().to_string(), "127.0.0.1"])
        .output()
        .unwrap();
    let scan = String::from_utf8(scan.stdout).unwrap();
    assert_eq!(scan.trim(), sshd.known_hosts_line("127.0.0.1"));
}

#[test]
fn debians_own_lets_root_and_users_in() {
    needs_lab!();
    lets_everybody_in(&OpenSsh::system().unwrap());
}

#[test]
fn the_newer_one_lets_root_and_users_in() {
    needs_lab!();
    let Some(folder) = std::env::var_os("WAYHOME_OPENSSH_10") else {
        eprintln!("skipped: `WAYHOME_OPENSSH_10` names no folder; `cargo xtask test` sets it");
        return;
    };
    let openssh = OpenSsh::backports(Path::new(&folder)).unwrap();
    assert!(openssh.version().unwrap() >= Version { major: 10, minor: 0 });
    lets_everybody_in(&openssh);
}

/// Servers as root with and without PAM, and one as a plain user.
fn lets_everybody_in(openssh: &OpenSsh) {
    let machine = Machine::start("server").unwrap();
    let fan = machine.add_user("fan", 4001, "/bin/bash").unwrap();
    let key = Key::make(&machine, openssh, Path::new("/tmp/key"), "me").unwrap();
    let known = Path::new("/tmp/known_hosts");
    let login = |sshd: &Sshd, user: &str, command: &str| {
        let line = sshd.known_hosts_line("127.0.0.1");
        std::fs::write(machine.file(known), line).unwrap();
        ssh(&machine, openssh, &key, known)
            .args(["-p", &sshd.port().to_string(), &format!("{user}@127.0.0.1"), command])
            .output()
            .unwrap()
    };
    let builder = Sshd::builder(openssh)
        .authorize("root", key.public_line())
        .authorize("fan", key.public_line());
    for pam in [false, true] {
        let mut sshd = builder.clone().pam(pam).start(&machine).unwrap();
        assert_said(&login(&sshd, "root", "id -un; pwd"), "root\n/run/homes/root\n", &sshd);
        assert_said(&login(&sshd, "fan", "id -un; pwd"), "fan\n/run/homes/fan\n", &sshd);
        assert_eq!(machine.sh("stat -c %u /proc/$(pgrep -o sshd)").unwrap(), "0\n");
        sshd.stop_listening();
        assert!(!login(&sshd, "fan", "true").status.success(), "it still listens");
    }

    let sshd = builder.start(&fan).unwrap();
    assert_said(&login(&sshd, "fan", "id -un"), "fan\n", &sshd);
    assert!(!login(&sshd, "root", "id -un").status.success());

    let sshd = Sshd::builder(openssh).home_keys().start(&fan).unwrap();
    assert!(!login(&sshd, "fan", "true").status.success());
    fan.authorize(&[key.public_line()]).unwrap();
    assert_said(&login(&sshd, "fan", "id -un"), "fan\n", &sshd);
}

/// A client that knows the host and uses the key, and nothing of the user's own.
fn ssh(host: &impl Host, openssh: &OpenSsh, key: &Key, known: &Path) -> Command {
    let mut ssh = host.command(openssh.ssh().as_os_str());
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
        .arg("-i")
        .arg(key.path())
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .stdin(Stdio::null());
    ssh
}

#[track_caller]
fn assert_said(output: &Output, expected: &str, sshd: &Sshd) {
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, expected, "stderr: {error}\nthe server's log:\n{}", sshd.log());
}
