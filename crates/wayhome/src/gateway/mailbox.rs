//! What a connection's task is told. Letters do not queue up: each kind is there or not, so that a
//! peer that reads nothing costs no more than one that does.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};
use wayhome_core::refusal::Reason;
use wayhome_core::route::Instance;

use super::waiting::Given;

/// What has arrived since it was looked last.
#[derive(Debug, Default)]
pub struct Mail {
    /// To a control connection: it is registered, with this generation.
    pub accepted: Option<u64>,
    /// To a control connection: see whether it is alive.
    pub ping: bool,
    /// To a control connection: another agent wanted to be its home.
    pub alarm: Option<(Instance, SocketAddr)>,
    /// To a control connection: clients wait for this many data connections.
    pub wanted: u32,
    /// To a data connection: it is a client's from now on.
    pub give: Option<oneshot::Sender<Given>>,
    /// To a client: its data connection.
    pub given: Option<oneshot::Receiver<Given>>,
    /// To each of them: it ends.
    pub ended: Option<Reason>,
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.accepted.is_none()
            && !self.ping
            && self.alarm.is_none()
            && self.wanted == 0
            && self.give.is_none()
            && self.given.is_none()
            && self.ended.is_none()
    }
}

/// Where it is left for a connection.
#[derive(Debug, Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    arrived: Notify,
}

impl Mailbox {
    /// Leaves something.
    pub fn leave(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_one();
    }

    /// Waits until something is there, and takes all of it. A wait may be given up, and loses nothing.
    pub async fn take(&self) -> Mail {
        loop {
            let mail =
                std::mem::take(&mut *self.mail.lock().unwrap_or_else(PoisonError::into_inner));
            if !mail.is_empty() {
                return mail;
            }
            self.arrived.notified().await;
        }
    }
}
