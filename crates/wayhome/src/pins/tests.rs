//! Pins in a folder: what is added, kept and refused.

use std::os::unix::fs::PermissionsExt;

use super::*;

const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=";

struct Folder {
    folder: tempfile::TempDir,
    pins: Pins,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pins = Pins(folder.path().join("state"));
        Self { folder, pins }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("state").join(file)
    }

    fn write(&self, file: &str, text: &str) {
        paths::private_dir(&self.folder.path().join("state")).unwrap();
        fs::write(self.path(file), text).unwrap();
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    fn refused(&self, whose: &str) -> String {
        self.pins.get(&whose.parse().unwrap()).unwrap_err().to_string()
    }
}

fn key(number: u8) -> Key {
    Key::new([number; 32])
}

fn whose(text: &str) -> Whose {
    text.parse().unwrap()
}

#[test]
fn what_is_pinned_is_found_again_under_the_name_that_ssh_would_use() {
    let folder = Folder::new();
    let (home, gateway) = (whose("home-ubuntu"), whose("wayhome://GW.example.org"));
    assert_eq!(folder.pins.get(&home).unwrap(), None);
    assert!(folder.pins.add(&home, key(1)).unwrap());
    assert!(!folder.pins.add(&home, key(1)).unwrap(), "it is pinned already");
    for (place, other) in
        ["wayhome://203.0.113.10:22", "wayhome://[2001:db8::1]"].iter().enumerate()
    {
        folder.pins.add(&whose(other), key(place as u8)).unwrap();
    }
    folder.pins.add(&gateway, key(2)).unwrap();
    assert_eq!(folder.text("known_homes"), format!("home-ubuntu {}\n", key(1)));
    assert_eq!(
        folder.text("known_gateways"),
        format!(
            "203.0.113.10 {}\n[2001:db8::1]:7222 {}\n[gw.example.org]:7222 {}\n",
            key(0),
            key(1),
            key(2)
        )
    );
    assert_eq!(folder.pins.get(&home).unwrap(), Some(key(1)));
    assert_eq!(folder.pins.get(&gateway).unwrap(), Some(key(2)));
    let mode = |file| fs::metadata(folder.path(file)).unwrap().mode() & 0o777;
    assert_eq!((mode("known_homes"), mode("known_gateways"), mode("")), (0o600, 0o600, 0o700));
    let shown: Vec<String> =
        folder.pins.gateways().unwrap().iter().map(|(address, _)| address.to_string()).collect();
    assert_eq!(
        shown,
        ["wayhome://203.0.113.10:22", "wayhome://[2001:db8::1]", "wayhome://gw.example.org"]
    );
    assert_eq!(folder.pins.homes().unwrap(), [("home-ubuntu".parse().unwrap(), key(1))]);
}

#[test]
fn a_pin_that_exists_is_never_changed() {
    let folder = Folder::new();
    let home = whose("home-ubuntu");
    folder.pins.add(&home, key(1)).unwrap();
    let why = folder.pins.add(&home, key(2)).unwrap_err().to_string();
    assert!(why.contains("`wayhome keys unpin home-ubuntu`"), "{why}");
    assert_eq!(folder.pins.get(&home).unwrap(), Some(key(1)));
    assert!(folder.pins.remove(&home).unwrap());
    assert!(!folder.pins.remove(&home).unwrap());
    assert!(folder.pins.add(&home, key(2)).unwrap());
    assert_eq!(folder.pins.get(&home).unwrap(), Some(key(2)));
}

#[test]
fn what_is_not_ours_in_the_file_is_kept() {
    let folder = Folder::new();
    let foreign = format!(
        "# mine\n\nhome-ubuntu {ECDSA}\n@cert-authority * {}\n|1|c2FsdA==|aGFzaA== {}\nnonsense\n",
        key(7),
        key(8)
    );
    // The last line has no end, and one line has two names.
    folder.write("known_homes", &format!("{foreign}attic,HOME-ubuntu {} a comment", key(1)));
    let home = whose("home-ubuntu");
    assert_eq!(folder.pins.get(&home).unwrap(), Some(key(1)), "another kind of key is no pin");
    folder.pins.add(&whose("cellar"), key(2)).unwrap();
    assert!(folder.pins.remove(&home).unwrap());
    let kept = format!("{foreign}attic {}\ncellar {}\n", key(1), key(2));
    assert_eq!(folder.text("known_homes"), kept);
    assert_eq!(folder.pins.get(&home).unwrap(), None);
    assert_eq!(folder.pins.get(&whose("attic")).unwrap(), Some(key(1)));
}

#[test]
fn two_keys_for_one_name_are_one_too_many() {
    let folder = Folder::new();
    folder.write("known_homes", &format!("home {0}\nhome {0}\n", key(1)));
    assert_eq!(folder.pins.get(&whose("home")).unwrap(), Some(key(1)));
    folder.write("known_homes", &format!("home {0}\nhome {1}\nhome {0}\n", key(1), key(2)));
    let why = folder.refused("home");
    assert!(why.contains("more than one key") && why.contains("keys unpin home"), "{why}");
    assert!(folder.pins.remove(&whose("home")).unwrap());
    assert_eq!(folder.text("known_homes"), "");
}

#[test]
fn a_revoked_key_is_no_pin() {
    let folder = Folder::new();
    folder.write("known_homes", &format!("home {0}\n@revoked * {0}\n", key(1)));
    let why = folder.refused("home");
    assert!(why.contains("is revoked"), "{why}");
    let why = folder.pins.add(&whose("attic"), key(1)).unwrap_err().to_string();
    assert!(why.contains("is revoked"), "{why}");
}

#[test]
fn a_file_that_others_can_write_is_not_believed() {
    let folder = Folder::new();
    for mode in [0o620, 0o602, 0o666] {
        folder.write("known_homes", &format!("home {}\n", key(1)));
        fs::set_permissions(folder.path("known_homes"), fs::Permissions::from_mode(mode)).unwrap();
        let why = folder.refused("home");
        assert!(why.contains(&format!("(mode {mode:04o})")), "{why}");
        let add = folder.pins.add(&whose("attic"), key(2));
        assert!(add.is_err(), "and not added to");
    }
    fs::set_permissions(folder.path("known_homes"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(folder.pins.get(&whose("home")).unwrap(), Some(key(1)));
}

#[test]
fn what_is_meant_to_be_a_gateway_is_no_home() {
    for (text, part) in [
        ("wayhome:gw", "no `wayhome://` address"),
        ("gw.example.org", "and a gateway `wayhome://gw.example.org`"),
    ] {
        let why = text.parse::<Whose>().unwrap_err();
        assert!(why.contains(part), "{why}");
    }
}
