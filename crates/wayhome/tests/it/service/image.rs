//! Into an image and out of it again: the right files with the right modes, once or twice, and
//! nothing else.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Desk, tree};

const UNIT: &str = "/etc/systemd/system/wayhome-agent.service";
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/wayhome-agent.service";

#[test]
fn an_image_gets_all_that_a_boot_needs() {
    let desk = Desk::new();
    let (code, _, error) = desk.install(&[]);
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("is not pinned"), "{error}");
    let config = fs::read_to_string(desk.image("/etc/wayhome/agent.toml")).unwrap();
    let identity = "identity = \"/var/lib/wayhome/keys/key\" # for this alone";
    assert!(config.contains(identity), "{config}");
    let unit = fs::read_to_string(desk.image(UNIT)).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/bin/wayhome agent run"), "{unit}");
    assert!(desk.image(WANTED).is_symlink(), "it is started with the machine");
    let modes = tree(&desk.at("image"));
    for (path, mode) in [
        ("/var/lib/wayhome", 0o700),
        ("/var/lib/wayhome/keys", 0o700),
        ("/var/lib/wayhome/keys/key", 0o600),
        ("/var/lib/wayhome/keys/key.pub", 0o600),
        ("/etc/wayhome/agent.toml", 0o644),
        ("/etc/sysusers.d/wayhome.conf", 0o644),
        (UNIT, 0o644),
    ] {
        let path = desk.image(path);
        let found = modes.iter().find(|(other, ..)| *other == path).unwrap();
        assert_eq!(found.1, mode, "{}", path.display());
    }
    let again = desk.install(&[]);
    assert_eq!(again.0, 0, "{}", again.2);
    assert_eq!(tree(&desk.at("image")), modes, "the second time changes nothing");
}

#[test]
fn a_key_that_the_person_knows_is_carried_over() {
    let desk = Desk::new();
    let key = fs::read_to_string(desk.at("key.pub")).unwrap();
    fs::create_dir_all(desk.at(".local/state/wayhome")).unwrap();
    fs::write(desk.at("pins"), format!("203.0.113.10 {key}")).unwrap();
    let config = fs::read_to_string(desk.at("agent.toml")).unwrap();
    let config = config.replace("[[service]]", "known_hosts = \"pins\"\n[[service]]");
    fs::write(desk.at("agent.toml"), config).unwrap();
    let (code, _, error) = desk.install(&[]);
    assert_eq!(code, 0, "{error}");
    assert!(!error.contains("is not pinned"), "{error}");
    let pins = fs::read_to_string(desk.image("/var/lib/wayhome/known_hosts")).unwrap();
    assert_eq!(pins.trim(), format!("203.0.113.10 {}", key.trim()));
    let config = fs::read_to_string(desk.image("/etc/wayhome/agent.toml")).unwrap();
    assert!(config.contains("known_hosts = \"/var/lib/wayhome/known_hosts\""), "{config}");
}

#[test]
fn a_configuration_that_is_replaced_is_kept() {
    let desk = Desk::new();
    assert_eq!(desk.install(&[]).0, 0);
    let before = fs::read(desk.image("/etc/wayhome/agent.toml")).unwrap();
    desk.key("other", "");
    desk.config("other");
    assert_eq!(desk.install(&[]).0, 0);
    assert_eq!(fs::read(desk.image("/etc/wayhome/agent.toml.old")).unwrap(), before);
}

#[test]
fn uninstall_takes_away_what_install_wrote_and_only_that() {
    let desk = Desk::new();
    let before = tree(&desk.at("image"));
    assert_eq!(desk.install(&[]).0, 0);
    fs::write(desk.image("/etc/wayhome/mine.toml"), "mine").unwrap();
    assert_eq!(desk.service("status", &[]).0, 0);

    let (code, said, _) = desk.service("uninstall", &["--purge", "--dry-run"]);
    assert_eq!(code, 0);
    assert!(said.contains("would remove `") && desk.image(UNIT).exists(), "{said}");

    let (code, _, error) = desk.service("uninstall", &[]);
    assert_eq!(code, 0, "{error}");
    assert!(!desk.image(UNIT).exists() && !desk.image(WANTED).is_symlink());
    assert!(desk.image("/etc/wayhome/agent.toml").exists(), "the configuration stays");
    assert!(desk.image("/var/lib/wayhome/keys/key").exists(), "and so does the key");
    assert_eq!(desk.service("status", &[]).0, 1);

    let (code, _, error) = desk.service("uninstall", &["--purge"]);
    assert_eq!(code, 0, "{error}");
    assert!(desk.image("/etc/wayhome/mine.toml").exists(), "what is a person's own stays");
    fs::remove_file(desk.image("/etc/wayhome/mine.toml")).unwrap();
    let left: Vec<_> =
        tree(&desk.at("image")).into_iter().filter(|(path, ..)| !path.is_dir()).collect();
    let files: Vec<_> = before.into_iter().filter(|(path, ..)| !path.is_dir()).collect();
    assert_eq!(left, files);

    let (code, _, error) = desk.service("uninstall", &["--purge"]);
    assert_eq!((code, error.contains("is not installed")), (0, true), "{error}");
}

#[test]
fn a_unit_of_somebody_elses_is_left_alone() {
    let desk = Desk::new();
    fs::create_dir_all(desk.image("/etc/systemd/system")).unwrap();
    fs::write(desk.image(UNIT), "[Service]\nExecStart=/bin/true\n").unwrap();
    let before = tree(&desk.at("image"));
    for (code, _, error) in [desk.install(&[]), desk.service("uninstall", &["--purge"])] {
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("wayhome-agent.service"), "{error}");
        assert_eq!(tree(&desk.at("image")), before, "and nothing else is written");
    }
}

#[test]
fn a_dry_run_shows_all_and_changes_nothing() {
    let desk = Desk::new();
    let before = tree(desk.folder.path());
    let (code, said, error) = desk.install(&["--dry-run"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(tree(desk.folder.path()), before);
    let secret = fs::read_to_string(desk.at("key")).unwrap();
    let secret = secret.lines().nth(2).unwrap();
    assert!(!said.contains(secret), "no part of a key is shown");
    let folder = desk.folder.path().display().to_string();
    insta::assert_snapshot!(said.replace(&folder, "/home/fan"));
}

#[test]
fn an_image_without_the_program_is_refused() {
    let desk = Desk::new();
    fs::remove_file(desk.image("/usr/local/bin/wayhome")).unwrap();
    let (code, _, error) = desk.install(&[]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("install -D -m 755"), "the remedy: {error}");
    assert!(!desk.image("/etc").exists(), "nothing is written");
}

#[test]
fn a_link_out_of_the_image_is_not_followed() {
    let desk = Desk::new();
    assert_eq!(desk.install(&[]).0, 0);
    // The same links, but absolute ones, which mean this machine's own folders here.
    for name in ["etc", "var"] {
        fs::rename(desk.image(name), desk.at(name)).unwrap();
        symlink(desk.at(name), desk.image(name)).unwrap();
    }
    let before = tree(desk.folder.path());
    let purged = desk.service("uninstall", &["--purge"]);
    for (code, _, error) in [desk.install(&[]), purged, desk.service("status", &[])] {
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("leads out of the image"), "{error}");
    }
    assert_eq!(tree(desk.folder.path()), before);
}

#[test]
fn an_image_that_is_not_there_is_refused() {
    let desk = Desk::new();
    fs::remove_dir_all(desk.at("image")).unwrap();
    let none = ["install", "uninstall", "status"].map(|verb| desk.service(verb, &[]));
    for (code, _, error) in none {
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("image` cannot be opened"), "{error}");
    }
}
