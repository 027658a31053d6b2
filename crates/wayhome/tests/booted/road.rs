//! Three booted computers and the road between them, set up by the documented commands.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use wayhome_core::status::Snapshot;
use wayhome_lab::systemd::{Booted, Image};
use wayhome_lab::{Lab, assert_eventually};

/// Long enough for anything that is to happen by itself on a loaded machine, a watchdog that runs
/// out (30 s) included.
pub const SOON: Duration = Duration::from_secs(60);

/// The port at the gateway.
pub const PORT: u16 = 2222;

/// The agent's unit.
pub const UNIT: &str = "wayhome-agent";

/// A home whose agent runs as a service, its gateway, and a laptop.
pub struct Road<'a> {
    pub home: Booted<'a>,
    pub gateway: Booted<'a>,
    pub laptop: Booted<'a>,
}

/// What `ssh home-ubuntu` found, and what runs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub boot: String,
    pub agent: String,
}

impl<'a> Road<'a> {
    /// All three computers, and no road yet.
    pub fn boot(image: &Image, lab: &'a Lab) -> Self {
        let [home, gateway, laptop] = thread::scope(|scope| {
            [lab.home(), lab.gateway(), lab.laptop()]
                .map(|machine| scope.spawn(|| Booted::start(image, machine).unwrap()))
                .map(|started| started.join().unwrap())
        });
        let road = Self { home, gateway, laptop };
        road.make_people();
        road.prepare_gateway();
        road
    }

    /// The road, open and proven.
    pub fn open(image: &Image, lab: &'a Lab) -> Self {
        let road = Self::boot(image, lab);
        let began = Instant::now();
        road.install();
        road.until_up();
        road.bring_configuration(&road.home.sh("wayhome ssh-config --user fan").unwrap());
        road.arrive().expect("ssh home-ubuntu");
        println!("installed: `ssh home-ubuntu` works after {:.1?}", began.elapsed());
        road
    }

    /// Steps 1 and 2 of the README at home: the program, a person, and a key for this alone.
    fn make_people(&self) {
        let program = self.home.file("/usr/local/bin/wayhome");
        fs::copy(env!("CARGO_BIN_EXE_wayhome"), &program).unwrap();
        self.laptop
            .sh("ssh-keygen -q -t ed25519 -N '' -C laptop -f ~/.ssh/id_ed25519")
            .expect("a key");
        let laptop_key = fs::read_to_string(self.laptop.file("/root/.ssh/id_ed25519.pub")).unwrap();
        let fan = "chmod 755 /usr/local/bin/wayhome
                   useradd --create-home --shell /bin/bash fan
                   echo 'fan ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/fan";
        self.home.sh(fan).unwrap();
        self.as_fan(&format!(
            "mkdir -m 700 ~/.ssh; echo '{}' > ~/.ssh/authorized_keys\n\
             ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/wayhome",
            laptop_key.trim()
        ));
        let laptop_key_at_home = self.home.file("/home/fan/laptop.pub");
        fs::write(laptop_key_at_home, laptop_key).unwrap();
    }

    /// Step 2: the account at the gateway that can hold two ports, and nothing else.
    fn prepare_gateway(&self) {
        self.as_fan(
            "wayhome gate > wayhome-gate\n\
             wayhome gate --authorize ~/.ssh/wayhome.pub --port 2222 --port 2223 > home.line\n\
             wayhome gate --authorize laptop.pub --port 2222 --laptop >> home.line",
        );
        for name in ["wayhome-gate", "home.line"] {
            let from = self.home.file(Path::new("/home/fan").join(name));
            fs::copy(from, self.gateway.file(Path::new("/root").join(name))).unwrap();
        }
        self.gateway.sh(GATEWAY_SETUP).unwrap();
    }

    /// Step 7: the agent as a service.
    pub fn install(&self) {
        self.write_config();
        self.as_fan("sudo wayhome service install agent --config agent.toml --accept-new");
    }

    /// Fan's `agent.toml`.
    pub fn write_config(&self) {
        fs::write(self.home.file("/home/fan/agent.toml"), AGENT_TOML).unwrap();
    }

    /// Step 5: what home printed is pasted on the laptop.
    pub fn bring_configuration(&self, text: &str) {
        let part = |name: &str| {
            let (_, after) = text.split_once(&format!("begin {name} ---\n")).expect(text);
            after.split_once(&format!("# --- wayhome: end {name}")).expect(text).0
        };
        let folder = self.laptop.file("/root/.ssh");
        fs::write(folder.join("config"), part("config")).unwrap();
        fs::write(folder.join("known_hosts"), part("known_hosts")).unwrap();
    }

    /// Runs a script at home in a login of fan's.
    pub fn as_fan(&self, script: &str) -> String {
        let output = self.home.login("fan", &format!("set -eu\n{script}")).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `ssh home-ubuntu` on the laptop: what it found there, or what ssh said.
    pub fn arrive(&self) -> Result<Arrival, String> {
        let look = format!(
            "cat /proc/sys/kernel/random/boot_id; systemctl show --property=MainPID --value {UNIT}"
        );
        let output = self
            .laptop
            .command("ssh")
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=3", "home-ubuntu", &look])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8(output.stdout).unwrap();
        let (boot, agent) = text.trim().split_once('\n').expect("two lines");
        Ok(Arrival { boot: boot.to_owned(), agent: agent.to_owned() })
    }

    /// Waits until `ssh home-ubuntu` finds what it shall find, prints how long that took since
    /// `began`, and returns it.
    pub fn until(&self, what: &str, began: Instant, is_back: impl Fn(&Arrival) -> bool) -> Arrival {
        let mut last = Err(String::new());
        assert_eventually!(
            {
                last = self.arrive();
                last.as_ref().is_ok_and(&is_back)
            },
            within = SOON,
            "{what}: {last:?}\n{}",
            self.journal()
        );
        println!("{what}: `ssh home-ubuntu` works after {:.1?}", began.elapsed());
        last.unwrap()
    }

    /// The agent's status, if it answers.
    pub fn status(&self) -> Option<Snapshot> {
        let output = self.home.command("wayhome").args(["status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until the agent says that all is proven.
    pub fn until_up(&self) {
        let is_up = || self.status().is_some_and(|status| status.all_up());
        assert_eventually!(is_up(), within = SOON, "up: {}", self.journal());
    }

    /// The kind of the cause that the link shows.
    pub fn cause(&self) -> Option<&'static str> {
        let status = self.status()?;
        status.links.first()?.cause.as_ref().map(|finding| finding.cause.kind())
    }

    /// A property of the agent's unit.
    pub fn property(&self, name: &str) -> String {
        let show = format!("systemctl show --property={name} --value {UNIT}");
        self.home.sh(&show).unwrap().trim().to_owned()
    }

    /// What the agent and systemd wrote about the unit in this boot.
    pub fn journal(&self) -> String {
        self.home.journal(UNIT).unwrap_or_else(|why| why.to_string())
    }

    /// The ssh that is the agent's link, as home numbers it.
    pub fn link(&self) -> String {
        self.home
            .sh(&format!("pgrep -P {} -x ssh", self.property("MainPID")))
            .unwrap()
            .trim()
            .to_owned()
    }
}

/// Step 3, as a file.
pub const AGENT_TOML: &str = r#"
name = "home-ubuntu"

[[gateway]]
address = "ssh://wayhome@203.0.113.10"
identity = "~/.ssh/wayhome"

[[service]]
name = "ssh"
target = "localhost:22"
port = 2222
"#;

/// From the README.
const GATEWAY_SETUP: &str = r"
cd ~
install -D -m 755 wayhome-gate /usr/local/libexec/wayhome-gate
useradd --system --create-home --shell /bin/sh wayhome
install -d -o wayhome -g wayhome -m 700 ~wayhome/.ssh
cat home.line >> ~wayhome/.ssh/authorized_keys
cat > /etc/ssh/sshd_config.d/wayhome.conf <<'END'
Match User wayhome
  AllowTcpForwarding yes
  AllowStreamLocalForwarding no
  PasswordAuthentication no
  KbdInteractiveAuthentication no
END
sshd -t && systemctl reload ssh
";
