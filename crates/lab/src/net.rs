//! The three seats and the network between them.
//!
//! ```text
//! home 192.168.1.10 ── nat ── 192.0.2.0/24 ── internet ──┬── gateway 203.0.113.10
//!      2001:db8:1:1::10   (one home behind each nat)     └── laptop 198.51.100.7
//!                                                            2001:db8:a::10, 2001:db8:b::7
//! ```
//!
//! Each nat masquerades IPv4 and lets nothing in that was not asked for from inside, IPv6 included.
//! Every home has the same private addresses, as homes have. Delay is a matter of its own (`delay`).

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use crate::error::{Error, Result, run};
use crate::machine::Machine;

/// The gateway's address.
pub const GATEWAY: &str = "203.0.113.10";
/// The gateway's IPv6 address.
pub const GATEWAY_V6: &str = "2001:db8:a::10";
/// The laptop's address.
pub const LAPTOP: &str = "198.51.100.7";
/// The laptop's IPv6 address.
pub const LAPTOP_V6: &str = "2001:db8:b::7";
/// Each home's address, behind its own nat.
pub const HOME: &str = "192.168.1.10";
/// The first home's IPv6 address, which its router hides from calls from outside.
pub const HOME_V6: &str = "2001:db8:1:1::10";

/// Homes behind routers of their own, a gateway, a laptop, and the internet between them.
#[derive(Debug)]
pub struct Lab {
    first: Household,
    others: Vec<Household>,
    internet: Machine,
    gateway: Machine,
    laptop: Machine,
}

/// One home and the router before it.
#[derive(Debug)]
pub struct Household {
    /// The machine that dials out; its interface is `eth0`.
    pub home: Machine,
    /// Its router; `lan` and `wan` are its interfaces.
    pub nat: Machine,
    /// The name of its line in the internet machine.
    line: String,
}

impl Lab {
    /// Whether this machine can hold a lab; if not, why.
    pub fn supported() -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::new("the lab needs root"));
        }
        for (program, package) in [
            ("unshare", "util-linux"),
            ("nsenter", "util-linux"),
            ("setpriv", "util-linux"),
            ("ip", "iproute2"),
            ("nft", "nftables"),
        ] {
            let asked = Command::new(program).arg("-V").stdout(Stdio::null()).status();
            if asked.is_err() {
                return Err(Error::new(format!(
                    "the lab needs `{program}`; install the package `{package}`"
                )));
            }
        }
        let trial = Machine::start("trial")?;
        trial
            .sh("ip link add trial0 type veth peer name trial1\nnft add table inet trial")
            .map(drop)
    }

    /// One home, the gateway and the laptop.
    pub fn three_seats() -> Result<Lab> {
        Lab::with_homes(1)
    }

    /// Several homes (1 to 60), each behind a nat of its own.
    pub fn with_homes(homes: u8) -> Result<Lab> {
        if !(1..=60).contains(&homes) {
            return Err(Error::new(format!("a lab has 1 to 60 homes, not {homes}")));
        }
        let internet = Machine::start("internet")?;
        forward(&internet)?;
        let gateway = Machine::start("gateway")?;
        let laptop = Machine::start("laptop")?;
        join(&internet, "gateway", &gateway, "eth0")?;
        join(&internet, "laptop", &laptop, "eth0")?;
        addresses(&internet, "gateway", &["203.0.113.1/24", "2001:db8:a::1/64"])?;
        addresses(&internet, "laptop", &["198.51.100.1/24", "2001:db8:b::1/64"])?;
        addresses(&gateway, "eth0", &["203.0.113.10/24", "2001:db8:a::10/64"])?;
        addresses(&laptop, "eth0", &["198.51.100.7/24", "2001:db8:b::7/64"])?;
        gateway
            .sh("ip route add default via 203.0.113.1; ip route add default via 2001:db8:a::1")?;
        laptop
            .sh("ip route add default via 198.51.100.1; ip route add default via 2001:db8:b::1")?;
        internet.sh(WEATHER)?;
        let first = household(&internet, 1)?;
        let others = (2..=homes).map(|n| household(&internet, n)).collect::<Result<_>>()?;
        let lab = Lab { first, others, internet, gateway, laptop };
        lab.name_everyone()?;
        Ok(lab)
    }

    /// The (first) home.
    pub fn home(&self) -> &Machine {
        &self.first.home
    }

    /// The router before the (first) home.
    pub fn nat(&self) -> &Machine {
        &self.first.nat
    }

    /// All homes with their routers.
    pub fn households(&self) -> impl Iterator<Item = &Household> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The public machine.
    pub fn gateway(&self) -> &Machine {
        &self.gateway
    }

    /// The machine that wants to reach home.
    pub fn laptop(&self) -> &Machine {
        &self.laptop
    }

    /// The router in the middle.
    pub fn internet(&self) -> &Machine {
        &self.internet
    }

    /// The internet's interfaces, one for each line.
    #[cfg(feature = "delay")]
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        let homes = self.households().map(|household| household.line.as_str());
        homes.chain([self.gateway.name(), self.laptop.name()])
    }

    /// Cuts the first home off: see [`Lab::cut_off`].
    pub fn cut(&self) -> Result<()> {
        self.cut_off(&self.first)
    }

    /// Silences the way between a home and the gateway, both ways: packets vanish, and nobody is told.
    /// Until it has been measured (a connection from home that gets no answer), believe nothing.
    pub fn cut_off(&self, household: &Household) -> Result<()> {
        let line = &household.line;
        self.internet
            .sh(&format!(
                "nft add rule inet weather forward iifname {line} oifname gateway drop\n\
                 nft add rule inet weather forward iifname gateway oifname {line} drop"
            ))
            .map(drop)
    }

    /// Ends all cuts.
    pub fn heal(&self) -> Result<()> {
        self.internet.sh("nft flush chain inet weather forward").map(drop)
    }

    /// Restricts a machine's line to a rate such as `20mbit`, both ways.
    pub fn rate(&self, machine: &Machine, rate: &str) -> Result<()> {
        let far = |peer: &Machine, interface: &str| {
            let tc = ["qdisc", "replace", "dev", interface, "root", "tbf", "rate", rate];
            // Enough for one timer tick at 1 Gbit/s; a queue of 50 ms is a usual home router's.
            run(peer.command("tc").args(tc).args(["burst", "128kb", "latency", "50ms"])).map(drop)
        };
        let is = |other: &Machine| other.pid() == machine.pid();
        if let Some(household) = self.households().find(|household| is(&household.home)) {
            far(machine, "eth0")?;
            return far(&household.nat, "lan");
        }
        if let Some(household) = self.households().find(|household| is(&household.nat)) {
            far(machine, "wan")?;
            return far(&self.internet, &household.line);
        }
        if is(&self.gateway) || is(&self.laptop) {
            far(machine, "eth0")?;
            return far(&self.internet, machine.name());
        }
        Err(Error::new(format!("`{}` has no line of its own to restrict", machine.name())))
    }

    /// `/etc/hosts` for everyone: `gateway.example.org`, `laptop.example.org`.
    fn name_everyone(&self) -> Result<()> {
        let names = format!(
            "printf '%s\\n' '{GATEWAY} gateway.example.org' '{GATEWAY_V6} gateway.example.org' \
             '{LAPTOP} laptop.example.org' '{LAPTOP_V6} laptop.example.org' >> /etc/hosts"
        );
        let homes = self.households().map(|household| &household.home);
        for machine in homes.chain([&self.gateway, &self.laptop]) {
            machine.sh(&names)?;
        }
        Ok(())
    }
}

impl Household {
    /// Replaces the home's IPv4 address at once, as a new DHCP lease does.
    pub fn new_address(&self, address: &str) -> Result<()> {
        self.remove_addresses()?;
        self.add_address(address)
    }

    /// Takes the home's IPv4 addresses away, and with them its route.
    pub fn remove_addresses(&self) -> Result<()> {
        self.home.sh("ip -4 address flush dev eth0").map(drop)
    }

    /// Gives the home an IPv4 address of its lan (192.168.1.0/24) and the route out.
    pub fn add_address(&self, address: &str) -> Result<()> {
        let _: Ipv4Addr =
            address.parse().map_err(|_| Error::new(format!("`{address}` is no IPv4 address")))?;
        self.home
            .sh(&format!(
                "ip address add {address}/24 dev eth0\n\
                 ip -4 route replace default via 192.168.1.1"
            ))
            .map(drop)
    }
}

/// Begins a test that needs the lab: without one the test ends here and says why, or fails if the
/// environment has `WAYHOME_LAB=required`.
#[macro_export]
macro_rules! needs_lab {
    () => {
        if let Err(why) = $crate::Lab::supported() {
            let required = ::std::env::var_os("WAYHOME_LAB").is_some_and(|lab| lab == "required");
            assert!(!required, "no lab: {why}");
            eprintln!("skipped: {why}");
            return;
        }
    };
}

fn household(internet: &Machine, number: u8) -> Result<Household> {
    let (suffix, line) = match number {
        1 => (String::new(), "nat".to_owned()),
        _ => (number.to_string(), format!("nat{number}")),
    };
    let home = Machine::start(&format!("home{suffix}"))?;
    let nat = Machine::start(&line)?;
    forward(&nat)?;
    join(&nat, "lan", &home, "eth0")?;
    join(internet, &line, &nat, "wan")?;

    // A /30 of 192.0.2.0/24 for each line.
    let base = (number - 1) * 4;
    let (near, far) = (format!("192.0.2.{}", base + 1), format!("192.0.2.{}", base + 2));
    let v6 = format!("2001:db8:1:{number:x}");
    let line_v6 = format!("2001:db8:f:{number:x}");
    addresses(internet, &line, &[&format!("{near}/30"), &format!("{line_v6}::1/64")])?;
    addresses(&nat, "wan", &[&format!("{far}/30"), &format!("{line_v6}::2/64")])?;
    addresses(&nat, "lan", &["192.168.1.1/24", &format!("{v6}::1/64")])?;
    addresses(&home, "eth0", &[&format!("{HOME}/24"), &format!("{v6}::10/64")])?;
    internet.sh(&format!("ip route add {v6}::/64 via {line_v6}::2"))?;
    nat.sh(&format!("ip route add default via {near}; ip route add default via {line_v6}::1"))?;
    home.sh(&format!("ip route add default via 192.168.1.1; ip route add default via {v6}::1"))?;
    nat.sh(NAT)?;
    Ok(Household { home, nat, line })
}

/// Where the cuts are made. IPv4 and IPv6 alike.
const WEATHER: &str = "nft -f - <<'END'
table inet weather {
    chain forward {
        type filter hook forward priority filter;
    }
}
END";

const NAT: &str = "nft -f - <<'END'
table inet router {
    chain out {
        type nat hook postrouting priority srcnat;
        meta nfproto ipv4 oifname wan masquerade
    }
    chain through {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname lan accept
    }
    chain in {
        type filter hook input priority filter; policy accept;
        iifname wan meta l4proto { tcp, udp } ct state new drop
    }
}
END";

/// A cable: made in one machine with its other end in another, so that the real machine never has an
/// interface of ours.
fn join(a: &Machine, a_end: &str, b: &Machine, b_end: &str) -> Result<()> {
    let pid = b.pid().to_string();
    let mut add = a.network_command("ip");
    add.args(["link", "add", a_end, "type", "veth", "peer", "name", b_end, "netns", &pid]);
    run(&mut add)?;
    for (machine, end) in [(a, a_end), (b, b_end)] {
        run(machine.command("ip").args(["link", "set", end, "up"]))?;
    }
    Ok(())
}

fn addresses(machine: &Machine, interface: &str, addresses: &[&str]) -> Result<()> {
    for address in addresses {
        run(machine.command("ip").args(["address", "add", address, "dev", interface]))?;
    }
    Ok(())
}

fn forward(machine: &Machine) -> Result<()> {
    machine
        .sh("echo 1 > /proc/sys/net/ipv4/ip_forward\n\
             echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
        .map(drop)
}
