//! What all native links of an agent share: what the home is called, what it offers, who may enter,
//! and the streams that live.

use std::sync::{Arc, Mutex};

use wayhome_core::health::Detail;
use wayhome_core::key::Key;
use wayhome_core::name::Name;
use wayhome_core::service::Service;
use wayhome_core::status::NativeStatus;

use super::grants::Rules;
use super::streams::Streams;
use crate::config::Config;
use crate::error::{Failure, Outcome};
use crate::wire::messages::Refused;

/// An agent's id in bytes.
const INSTANCE: usize = 16;

/// A home, as native links have it.
#[derive(Debug)]
pub struct Home {
    /// What it is called.
    pub name: Name,
    /// This agent's random id: by it a gateway knows that it is the same that comes back.
    pub instance: Vec<u8>,
    /// The streams that live.
    pub streams: Streams,
    services: Mutex<Arc<[Service]>>,
    rules: Rules,
}

impl Home {
    /// The home of a configuration.
    ///
    /// # Errors
    /// If its grants cannot be read.
    pub fn of(config: &Config) -> Outcome<Self> {
        let mut instance = vec![0; INSTANCE];
        aws_lc_rs::rand::fill(&mut instance)
            .map_err(|_| Failure::new("no random number is to be had from the system"))?;
        let home = Self {
            name: config.name.clone(),
            instance,
            streams: Streams::default(),
            services: Mutex::default(),
            rules: Rules::none(),
        };
        home.follow(config)?;
        Ok(home)
    }

    /// Does as the configuration has it from now on.
    ///
    /// # Errors
    /// If its grants cannot be read; then all stays as it is.
    pub fn follow(&self, config: &Config) -> Outcome {
        self.rules.follow(config.grants.as_deref())?;
        if let Ok(mut services) = self.services.lock() {
            *services = config.services.clone().into();
        }
        Ok(())
    }

    /// Takes over what is edited in the file of grants. Never ends.
    pub async fn keep_up(&self) {
        self.rules.keep_up().await;
    }

    /// The service of this name; or with this port, if it is asked for as `port-8080`: who comes by
    /// way of a SOCKS proxy knows no more.
    pub fn service(&self, name: &Name) -> Option<Service> {
        let services = Arc::clone(&*self.services.lock().ok()?);
        let named = services.iter().find(|service| service.name == *name);
        let at_port = |service: &&Service| {
            let ports = [service.port, Some(service.target.port())];
            ports.into_iter().flatten().any(|port| port > 0 && Name::for_port(port) == *name)
        };
        named.or_else(|| services.iter().find(at_port)).cloned()
    }

    /// Whether somebody who comes now may use a service. The home itself always may.
    ///
    /// # Errors
    /// What it is told otherwise.
    pub fn admit(&self, own: &Key, key: &Key, service: &Name) -> Result<(), Refused> {
        if key == own { Ok(()) } else { self.rules.admit(key, service) }
    }

    /// Waits until somebody who was let in may not use the service any more, and tells the log.
    pub async fn withdrawn(&self, own: Key, key: Key, service: Name) {
        if key == own {
            return std::future::pending().await;
        }
        let reason = self.rules.withdrawn(key, service.clone()).await;
        tracing::warn!(
            event = "stream-cut",
            service = service.as_str(),
            "a stream to {service} is cut: {reason} ({key})"
        );
    }

    /// For `status`.
    pub fn status(&self) -> NativeStatus {
        NativeStatus { grants: self.rules.status(), streams: self.streams.serving() }
    }
}

/// How this program calls itself.
pub fn software() -> String {
    Detail::new(concat!("wayhome ", env!("CARGO_PKG_VERSION"))).to_string()
}
