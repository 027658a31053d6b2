//! The signals that end a program, for a command that has something to clean up first.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Failure, Outcome};

/// What a person or a script ends a program with.
#[derive(Debug)]
pub struct Signals([Signal; 3]);

impl Signals {
    /// Takes them from now on; until then each ends the program at once.
    pub fn listen() -> Outcome<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error: std::io::Error| {
                Failure::new("signals cannot be received").because(&error)
            })
        };
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Ok(Self([listen(interrupt)?, listen(terminate)?, listen(hangup)?]))
    }

    /// One that has come while something went on that cannot be broken off.
    pub async fn arrived(&mut self) -> Option<u8> {
        tokio::time::timeout(Duration::from_millis(1), self.next()).await.ok()
    }

    /// Waits for one. Gives the exit code of a program that it ended, as shells count it.
    pub async fn next(&mut self) -> u8 {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
            _ = hangup.recv() => 129,
        }
    }
}
