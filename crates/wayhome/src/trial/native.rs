//! The native road's seats: a gateway that runs wayhome, and the keys of all three.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::time::sleep;

use super::daemon::Daemon;
use super::stock::Stock;
use super::{HOME, PATIENCE, free_port, program, run, write};
use crate::error::{Failure, Outcome};
use crate::paths;
use crate::ssh_config::{NativeRoad, Roads, render};

/// How often it is looked whether the gateway listens.
const LOOK: std::time::Duration = std::time::Duration::from_millis(2);

/// The public halves; each seat made its own, and keeps the other half.
pub struct Keys {
    home: String,
    gateway: String,
    laptop: String,
}

impl Keys {
    /// Makes them, in a folder for each seat.
    pub async fn make(dir: &Path) -> Outcome<Self> {
        let seats = [dir.to_owned(), gateway_seat(dir), dir.join("laptop")];
        let mut keys = Vec::new();
        for seat in &seats {
            paths::private_dir(&seat.join("state"))?;
            keys.push(run(seat, "keys", &[]).await?.trim().to_owned());
        }
        match <[String; 3]>::try_from(keys) {
            Ok([home, gateway, laptop]) => Ok(Self { home, gateway, laptop }),
            Err(_) => Err(Failure::new("a seat has no key")),
        }
    }
}

/// The gateway, running.
pub struct Native {
    keys: Keys,
    gateway: Daemon,
    port: u16,
}

impl Native {
    /// Starts it, with grants for the home to offer a service, and for the laptop to reach it.
    pub async fn start(keys: Keys, dir: &Path, service: &str) -> Outcome<Self> {
        let seat = gateway_seat(dir);
        let port = free_port()?;
        write(&seat.join("gateway.toml"), &format!("listen = [\"127.0.0.1:{port}\"]\n"))?;
        let grants = format!(
            "[[grant]]\nkey = \"{}\"\nname = \"home\"\nhomes = [\"{HOME}\"]\n\
             services = [\"{service}\"]\n\n\
             [[grant]]\nkey = \"{}\"\nname = \"laptop\"\nreach = [\"{HOME}\"]\n",
            keys.home, keys.laptop
        );
        write(&seat.join("grants.toml"), &grants)?;
        let mut native = Self { keys, gateway: start(&seat)?, port };
        native.wait_until_it_listens().await?;
        Ok(native)
    }

    /// Kills it, and starts another one.
    pub async fn restart(&mut self, dir: &Path) -> Outcome {
        self.gateway.kill();
        self.gateway = start(&gateway_seat(dir))?;
        self.wait_until_it_listens().await
    }

    /// Where it listens.
    pub fn at(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The agent's link to it, for its configuration.
    pub fn gateway(&self) -> String {
        let (at, key) = (self.at(), &self.keys.gateway);
        format!("\n[[gateway]]\naddress = \"wayhome://{at}\"\nkey = \"{key}\"\n")
    }

    /// What home grants: the laptop, this service.
    pub fn grant_at_home(&self, service: &str) -> String {
        let key = &self.keys.laptop;
        format!("[[grant]]\nkey = \"{key}\"\nname = \"laptop\"\nservices = [\"{service}\"]\n")
    }

    /// Pins the other two seats on the laptop.
    pub async fn pin(&self, laptop: &Path) -> Outcome {
        let gateway = format!("wayhome://{}", self.at());
        run(laptop, "keys", &["pin", &gateway, &self.keys.gateway]).await?;
        run(laptop, "keys", &["pin", HOME, &self.keys.home]).await.map(drop)
    }

    /// What `wayhome ssh-config --connect` installs on the laptop.
    pub fn ssh_config(&self, stock: &Stock) -> Outcome<String> {
        let bad = |why: &dyn std::error::Error| {
            Failure::new("the laptop's configuration cannot be written").because(why)
        };
        let name: wayhome_core::name::Name = HOME.parse().map_err(|e| bad(&e))?;
        let road = NativeRoad {
            alias: name.clone(),
            home: name,
            gateways: Vec::new(),
            user: Some(stock.user().parse().map_err(|e| bad(&e))?),
            program: program()?,
            host_keys: vec![stock.host_key()?],
        };
        render(&Roads { native: vec![road], ..Roads::default() }).map_err(|e| bad(&e))
    }

    async fn wait_until_it_listens(&mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if self.gateway.has_ended() || Instant::now() > deadline {
                let why = format!("the gateway's wayhome does not listen on {}", self.at());
                return Err(self.gateway.failure(why));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}

/// The gateway's folder.
pub fn gateway_seat(dir: &Path) -> PathBuf {
    dir.join("gateway")
}

fn start(seat: &Path) -> Outcome<Daemon> {
    Daemon::start(seat, &["gateway", "run"], "gateway.toml", "the gateway")
}
