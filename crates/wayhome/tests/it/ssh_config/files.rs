//! Files: what is written, with which modes, and what stays as it was.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use clap::Parser;
use wayhome::command::ssh_config as command;
use wayhome::ssh_config::install::{Change, Done, InstallError, Warning, What, install, remove};
use wayhome::ssh_config::{MAX_TEXT, Printed, Roads, parse, render};
use wayhome_lab::{Machine, needs_lab};

use super::{KEY_A, KEY_B, gateway, home, printed, roads, write_by};

const INCLUDE: &str = "Include ~/.ssh/wayhome/*.conf\n";

/// A laptop's home folder.
struct Laptop {
    folder: tempfile::TempDir,
}

impl Laptop {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn with_config(config: &str) -> Self {
        let laptop = Self::new();
        fs::create_dir(laptop.path(".ssh")).unwrap();
        fs::write(laptop.path(".ssh/config"), config).unwrap();
        laptop
    }

    fn home(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.path(path)).unwrap().mode() & 0o7777
    }

    fn install(&self, name: &str) -> Done {
        install(self.home(), &printed(name), false).unwrap()
    }

    fn remove(&self, name: &str) -> Done {
        remove(self.home(), &name.parse().unwrap(), false).unwrap()
    }

    /// Every file below `.ssh`.
    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.path(".ssh")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(self.home()).unwrap().display().to_string());
                }
            }
        }
        files.sort();
        files
    }
}

#[test]
fn a_laptop_without_any_ssh_folder() {
    let laptop = Laptop::new();
    let done = laptop.install("home-ubuntu");
    assert_eq!(
        laptop.files(),
        [".ssh/config", ".ssh/wayhome/home-ubuntu.conf", ".ssh/wayhome/home-ubuntu.known_hosts"]
    );
    for folder in [".ssh", ".ssh/wayhome"] {
        assert_eq!(laptop.mode(folder), 0o700, "{folder}");
    }
    for file in laptop.files() {
        assert_eq!(laptop.mode(&file), 0o600, "{file}");
    }
    assert_eq!(laptop.read(".ssh/config"), INCLUDE);
    let known = laptop.read(".ssh/wayhome/home-ubuntu.known_hosts");
    assert!(known.ends_with(&format!(
        "\n203.0.113.10 {KEY_A}\nhome-ubuntu {KEY_B}\nhome-ubuntu-2 {KEY_B}\n"
    )));
    assert_eq!(done.warnings, []);
    let shown: Vec<_> = done.changes.iter().map(|change| change.shown.as_str()).collect();
    assert_eq!(shown[1..], ["~/.ssh/wayhome/home-ubuntu.conf", "~/.ssh/config"]);
}

#[test]
fn doing_it_again_changes_nothing() {
    let laptop = Laptop::with_config("Host a\n");
    laptop.install("home-ubuntu");
    let state = || {
        let each = |file: &String| {
            let metadata = fs::metadata(laptop.path(file)).unwrap();
            (file.clone(), metadata.ino(), metadata.mtime_nsec(), laptop.read(file))
        };
        laptop.files().iter().map(each).collect::<Vec<_>>()
    };
    let before = state();
    let done = laptop.install("home-ubuntu");
    assert!(done.changes.iter().all(|change| change.what == What::Unchanged), "{done:?}");
    assert_eq!(state(), before);
}

#[test]
fn every_other_byte_and_the_mode_are_kept() {
    for config in [
        "# mine\nHost a\n  User b",
        "Host a\r\n  User b\r\n\r\n",
        "\n\n  # \u{e9}\nHost *\n\tForwardAgent no\n\n\n",
        "",
    ] {
        let laptop = Laptop::with_config(config);
        let path = laptop.path(".ssh/config");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        laptop.install("home-ubuntu");
        let end = if config.contains("\r\n") { "\r\n" } else { "\n" };
        assert_eq!(laptop.read(".ssh/config"), format!("{}{end}{config}", INCLUDE.trim_end()));
        assert_eq!(laptop.mode(".ssh/config"), 0o640);
        laptop.remove("home-ubuntu");
        assert_eq!(laptop.read(".ssh/config"), config);
        assert_eq!(laptop.mode(".ssh/config"), 0o640);
        assert_eq!(laptop.files(), [".ssh/config"]);
        assert!(!laptop.path(".ssh/wayhome").exists());
    }
}

#[test]
fn bytes_that_are_no_text_are_kept() {
    let laptop = Laptop::with_config("");
    fs::write(laptop.path(".ssh/config"), b"# \xff\xfe\nHost a\n").unwrap();
    laptop.install("home-ubuntu");
    let now = fs::read(laptop.path(".ssh/config")).unwrap();
    assert_eq!(now, [INCLUDE.as_bytes(), b"# \xff\xfe\nHost a\n"].concat());
}

#[test]
fn the_group_of_the_file_is_kept() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let laptop = Laptop::with_config("Host a\n");
    let path = laptop.path(".ssh/config");
    chown(&path, None, Some(4001)).unwrap();
    laptop.install("home-ubuntu");
    assert_eq!(fs::metadata(&path).unwrap().gid(), 4001);
}

#[test]
fn links_of_dotfiles_stay_links() {
    let laptop = Laptop::new();
    fs::create_dir_all(laptop.path("dotfiles/ssh")).unwrap();
    fs::write(laptop.path("dotfiles/real_config"), "Host a\n").unwrap();
    symlink("dotfiles/ssh", laptop.path(".ssh")).unwrap();
    symlink("../real_config", laptop.path("dotfiles/ssh/config")).unwrap();
    laptop.install("home-ubuntu");
    assert!(laptop.path(".ssh").is_symlink());
    assert!(laptop.path("dotfiles/ssh/config").is_symlink());
    assert_eq!(laptop.read("dotfiles/real_config"), format!("{INCLUDE}Host a\n"));
    laptop.remove("home-ubuntu");
    assert!(laptop.path("dotfiles/ssh/config").is_symlink());
    assert_eq!(laptop.read("dotfiles/real_config"), "Host a\n");
}

#[test]
fn a_link_to_nothing_is_refused_and_nothing_written() {
    let laptop = Laptop::new();
    fs::create_dir(laptop.path(".ssh")).unwrap();
    symlink("nothing", laptop.path(".ssh/config")).unwrap();
    let error = install(laptop.home(), &printed("home-ubuntu"), false).unwrap_err().to_string();
    assert!(error.contains(".ssh/config` could not be followed: No such file"), "{error}");
    assert_eq!(laptop.files(), [".ssh/config"]);
}

#[test]
fn an_include_by_hand_is_enough_and_stays() {
    for line in ["Include wayhome/*.conf", "include \"~/.ssh/wayhome/*.conf\""] {
        let config = format!("# mine\n{line}\nHost a\n");
        let laptop = Laptop::with_config(&config);
        laptop.install("home-ubuntu");
        assert_eq!(laptop.read(".ssh/config"), config);
        laptop.remove("home-ubuntu");
        assert_eq!(laptop.read(".ssh/config"), config);
    }
    let laptop = Laptop::with_config(&format!("Host a\n  {INCLUDE}"));
    laptop.install("home-ubuntu");
    assert_eq!(laptop.read(".ssh/config"), format!("{INCLUDE}Host a\n  {INCLUDE}"));
}

#[test]
fn two_homes_stand_side_by_side() {
    let laptop = Laptop::with_config("Host a\n");
    laptop.install("attic");
    let attic = laptop.read(".ssh/wayhome/attic.conf");
    let done = laptop.install("barn");
    assert_eq!(done.warnings, [], "both have the same gateway, which says the same");
    assert_eq!(laptop.read(".ssh/config"), format!("{INCLUDE}Host a\n"));

    let mut again = printed("barn");
    again.roads.homes.pop();
    install(laptop.home(), &again, false).unwrap();
    assert!(!laptop.read(".ssh/wayhome/barn.conf").contains("barn-2"));
    assert_eq!(laptop.read(".ssh/wayhome/attic.conf"), attic);

    laptop.remove("attic");
    assert_eq!(laptop.read(".ssh/config"), format!("{INCLUDE}Host a\n"));
    let error = remove(laptop.home(), &"attic".parse().unwrap(), false).unwrap_err().to_string();
    assert_eq!(error, "`attic` is not installed here, but: `barn`");
    laptop.remove("barn");
    assert_eq!(laptop.read(".ssh/config"), "Host a\n");
    let error = remove(laptop.home(), &"barn".parse().unwrap(), false).unwrap_err().to_string();
    assert_eq!(error, "`barn` is not installed here, and nothing else is");
}

#[test]
fn refuses_what_means_something_else_here() {
    let refused = |laptop: &Laptop, printed: &Printed| {
        let before = laptop.files();
        let error = install(laptop.home(), printed, false).unwrap_err();
        assert_eq!(laptop.files(), before, "nothing is written");
        match error {
            InstallError::AliasTaken { alias, file, lines } => (alias, file, lines),
            other => panic!("{other}"),
        }
    };
    let taken = |alias: &str, file: &str, lines: &[usize]| {
        (alias.to_owned(), file.to_owned(), lines.to_vec())
    };
    let laptop = Laptop::with_config("Host ecs other\n  User root\n\nHost Home-Ubuntu\n");
    let both = refused(&laptop, &printed("home-ubuntu"));
    assert_eq!(both, taken("home-ubuntu", "~/.ssh/config", &[4]));
    fs::write(laptop.path(".ssh/config"), "Host ecs other\n").unwrap();
    let gateway_s = refused(&laptop, &printed("home-ubuntu"));
    assert_eq!(gateway_s, taken("ecs", "~/.ssh/config", &[1]));

    // A host that ssh knows, hashed or not; the same key would be the same machine.
    let laptop = Laptop::with_config("");
    let known = laptop.path(".ssh/known_hosts");
    fs::write(&known, format!("example.org {KEY_A}\nhome-ubuntu-2 {KEY_A}\n")).unwrap();
    let by_keys = taken("home-ubuntu-2", "~/.ssh/known_hosts", &[2]);
    assert_eq!(refused(&laptop, &printed("home-ubuntu")), by_keys);
    let hashed = std::process::Command::new("ssh-keygen").arg("-Hf").arg(&known).output();
    assert!(hashed.unwrap().status.success());
    fs::remove_file(laptop.path(".ssh/known_hosts.old")).unwrap();
    assert_eq!(refused(&laptop, &printed("home-ubuntu")), by_keys);
    fs::write(&known, format!("home-ubuntu {KEY_B}\n")).unwrap();
    laptop.install("home-ubuntu");

    // What this home brought before is its own, also if the person has it now as well.
    fs::write(laptop.path(".ssh/config"), format!("{INCLUDE}Host ecs\n")).unwrap();
    let (alias, file) = ("ecs".to_owned(), "~/.ssh/config".to_owned());
    let warning = Warning::AliasElsewhere { alias, file, lines: vec![2] };
    assert_eq!(laptop.install("home-ubuntu").warnings, [warning]);

    // Another home's are not.
    let mut other = roads("barn");
    other.homes[1] = home("home-ubuntu-2", 2224, KEY_B);
    fs::write(laptop.path(".ssh/config"), INCLUDE).unwrap();
    let file = "~/.ssh/wayhome/home-ubuntu.conf";
    let other = refused(&laptop, &parse(&render(&other).unwrap()).unwrap());
    assert_eq!((other.0.as_str(), other.1.as_str()), ("home-ubuntu-2", file));
    let mut other = roads("barn");
    other.gateways = vec![gateway("ecs", "203.0.113.10", KEY_B)];
    let other = refused(&laptop, &parse(&render(&other).unwrap()).unwrap());
    assert_eq!((other.0.as_str(), other.1.as_str()), ("ecs", file), "another key of the gateway");
}

#[test]
fn warns_when_all_keys_of_a_machine_are_others() {
    let laptop = Laptop::new();
    laptop.install("home-ubuntu");
    let mut changed = printed("home-ubuntu");
    changed.roads.homes[0].host_keys = vec![KEY_A.parse().unwrap()];
    let done = install(laptop.home(), &changed, false).unwrap();
    assert_eq!(done.warnings, [Warning::KeysReplaced { name: "home-ubuntu".into() }]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let laptop = Laptop::new();
    let done = install(laptop.home(), &printed("home-ubuntu"), true).unwrap();
    assert!(matches!(&done.changes[1], Change { what: What::Written(text), .. }
        if text.contains("ProxyJump ecs")));
    assert!(!laptop.path(".ssh").exists());
    laptop.install("home-ubuntu");
    let files = laptop.files();
    remove(laptop.home(), &"home-ubuntu".parse().unwrap(), true).unwrap();
    assert_eq!(laptop.files(), files);
}

#[test]
fn many_at_once_leave_one_include_and_all_files() {
    let laptop = Laptop::with_config("Host a\n");
    std::thread::scope(|scope| {
        for number in 0..12 {
            let name = format!("home{}", number % 6);
            let laptop = &laptop;
            scope.spawn(move || laptop.install(&name));
        }
    });
    assert_eq!(laptop.read(".ssh/config"), format!("{INCLUDE}Host a\n"));
    assert_eq!(laptop.files().len(), 1 + 2 * 6, "{:?}", laptop.files());
    std::thread::scope(|scope| {
        for number in 0..6 {
            let name = format!("home{number}");
            let laptop = &laptop;
            scope.spawn(move || {
                laptop.remove(&name);
                // The folder comes and goes under the others meanwhile.
                laptop.install(&name);
                laptop.remove(&name);
            });
        }
    });
    assert_eq!(laptop.read(".ssh/config"), "Host a\n");
    assert_eq!(laptop.files(), [".ssh/config"]);
}

#[test]
fn the_home_of_another_user_is_left_alone() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let laptop = Laptop::new();
    chown(laptop.home(), Some(4001), Some(4001)).unwrap();
    let error = install(laptop.home(), &printed("home-ubuntu"), false).unwrap_err();
    assert!(error.to_string().contains("run it as user 4001, without sudo"), "{error}");
    assert!(!laptop.path(".ssh").exists());

    let laptop = Laptop::with_config("Host a\n");
    chown(laptop.path(".ssh/config"), Some(4001), None).unwrap();
    let error = install(laptop.home(), &printed("home-ubuntu"), false).unwrap_err();
    assert!(matches!(error, InstallError::ConfigMade(_)), "{error}");
    assert_eq!(laptop.files(), [".ssh/config"]);
    assert!(!laptop.path(".ssh/wayhome").exists(), "a folder is left");
}

#[test]
fn a_folder_that_cannot_be_written_is_left_as_it_was() {
    needs_lab!();
    let machine = Machine::start("laptop").unwrap();
    let program = machine.bring(&std::env::current_exe().unwrap()).unwrap();
    let fan = machine.add_user("fan", 4001, "/bin/sh").unwrap();
    let text = render(&roads("home-ubuntu")).unwrap();
    let write = || {
        let output = write_by(fan.command(&program), fan.home(), &text);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let run = |script: &str| {
        let output = fan.command("sh").args(["-euc", script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };

    run("mkdir -m 500 ~/.ssh");
    let (code, said) = write();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(".ssh/wayhome` could not be made: Permission denied"), "{said}");

    run("chmod 700 ~/.ssh; mkdir ~/made; touch ~/made/config; chmod 500 ~/made
         ln -s ~/made/config ~/.ssh/config");
    let (code, said) = write();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("could not be written: Permission denied"), "{said}");
    assert!(said.contains("add `Include ~/.ssh/wayhome/*.conf` to its top yourself"), "{said}");
    assert_eq!(run("ls -A ~/.ssh"), "config\n");

    // As plain as it gets, for this user too.
    run("rm ~/.ssh/config");
    let (code, said) = write();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("now try: `ssh home-ubuntu`"), "{said}");
    assert_eq!(run("stat -c '%a %U' ~/.ssh ~/.ssh/config").replace('\n', ";"), "700 fan;600 fan;");
}

#[test]
fn a_full_disk_changes_nothing() {
    needs_lab!();
    let machine = Machine::start("laptop").unwrap();
    let program = machine.bring(&std::env::current_exe().unwrap()).unwrap();
    let home = machine.home_of("root").unwrap();
    machine
        .sh("mkdir ~/.ssh; mount -t tmpfs -o size=16k,mode=700 tmpfs ~/.ssh
            printf 'Host a\\n' > ~/.ssh/config
            head -c 8192 /dev/zero > ~/.ssh/filler")
        .unwrap();
    let text = render(&roads("home-ubuntu")).unwrap();
    let output = write_by(machine.command(&program), &home, &text);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(machine.sh("cd ~/.ssh; ls -A; cat config").unwrap(), "config\nfiller\nHost a\n");
}

#[test]
fn the_command_says_what_it_did_and_what_is_next() {
    let laptop = Laptop::new();
    let text = render(&roads("home-ubuntu")).unwrap();
    let mut out = Vec::new();
    let stdin = &mut text.as_bytes();
    command::write(Path::new("-"), false, laptop.home(), stdin, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "wrote `~/.ssh/wayhome/home-ubuntu.known_hosts`\n\
         wrote `~/.ssh/wayhome/home-ubuntu.conf`\n\
         added one `Include` line to the top of `~/.ssh/config`\n\
         `home-ubuntu` leads to port 2222 at `ecs`, as `fan`\n\
         `home-ubuntu-2` leads to port 2223 at `ecs`, as `fan`\n\
         `ecs` leads to 203.0.113.10, port 22, as `way`\n\
         now try: `ssh home-ubuntu`\n"
    );
    let file = laptop.path("text");
    fs::write(&file, &text).unwrap();
    let mut out = Vec::new();
    let stdin = &mut std::io::empty();
    command::write(&file, true, laptop.home(), stdin, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("is already as it should be"));
    let mut out = Vec::new();
    command::remove(&"home-ubuntu".parse().unwrap(), false, laptop.home(), &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "removed the `Include` line from `~/.ssh/config`\n\
         removed `~/.ssh/wayhome/home-ubuntu.conf`\n\
         removed `~/.ssh/wayhome/home-ubuntu.known_hosts`\n"
    );
}

#[test]
fn a_hostile_text_writes_nothing() {
    let good = render(&roads("home-ubuntu")).unwrap();
    let texts = [
        good.replace("  User way\n", "  User way\n  ProxyCommand sh -c 'touch /tmp/x'\n"),
        good.replace("ssh-config 1 home-ubuntu", "ssh-config 1 ../../x"),
        good.replace("HostName 203.0.113.10", "HostName 203.0.113.10\n  Include ~/x"),
        good.replace("~/.ssh/gateway.pem", "~/.ssh/%d`id`"),
        good.replace("User fan", "User -oProxyCommand=id"),
        good.replace("StrictHostKeyChecking yes", "StrictHostKeyChecking no"),
        "x".repeat(MAX_TEXT * 2),
    ];
    for text in texts {
        assert_ne!(text, good);
        let laptop = Laptop::new();
        let (mut out, stdin) = (Vec::new(), &mut text.as_bytes());
        let error =
            command::write(Path::new("-"), false, laptop.home(), stdin, &mut out).unwrap_err();
        assert!(error.to_string().starts_with("standard input is not a text that"), "{error}");
        assert!(!laptop.path(".ssh").exists() && out.is_empty());
    }
}

#[test]
fn the_arguments_are_checked_before_anything_else() {
    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        args: command::Args,
    }
    let args = |line: &str| {
        Program::try_parse_from(["ssh-config"].into_iter().chain(line.split_whitespace()))
    };
    assert!(args("--write - --dry-run").unwrap().args.dry_run);
    assert!(args("--user fan --identity ~/.ssh/id_ed25519 --multiplex").is_ok());
    assert!(args("--remove home-ubuntu").is_ok());
    let help = args("--help").unwrap_err().to_string();
    assert!(help.contains("Make `ssh home-ubuntu` work on a laptop"), "{help}");
    for wrong in [
        "--write - --remove home-ubuntu",
        "--write - --user fan",
        "--remove ../x",
        "--user -oProxyCommand=x",
        "--identity %d",
        "--gateway-alias *",
        "--dry-run",
    ] {
        assert!(args(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn roads_with_several_gateways_install_too() {
    let laptop = Laptop::new();
    let mut roads: Roads = roads("home-ubuntu");
    roads.gateways.push(gateway("spare", "2001:db8::7", KEY_A));
    roads.homes.push(home("home-ubuntu", 2222, KEY_B));
    roads.homes[2].via = 1;
    install(laptop.home(), &parse(&render(&roads).unwrap()).unwrap(), false).unwrap();
    let config = laptop.read(".ssh/wayhome/home-ubuntu.conf");
    assert!(config.contains("\nHost home-ubuntu-via-spare\n"), "{config}");
}
