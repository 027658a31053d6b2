//! TLS without a socket, and without a buffer while nothing is under way: a gateway has thousands of
//! connections that wait, and rustls's usual interface keeps 4 KiB for each of them to read into. So
//! this is its unbuffered one, which works on the bytes that it is handed.

use std::io;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

use super::frame::breach;
use super::tls;

/// The most that may lie here undecrypted: a whole record of the largest kind (RFC 8446, section
/// 5.2), or a message of the handshake in pieces, none of which comes near to it.
const MAX_INCOMING: usize = 20 * 1024;

/// What encryption adds at the most to a record, and a change of keys before it.
const OVERHEAD: usize = 512;

/// One side of a connection. What it has to send is in [`Session::outgoing`], always.
pub struct Session {
    side: Side,
    /// What was received. Up to `done` it was taken; the rest is no whole record or message of the
    /// handshake yet.
    incoming: Vec<u8>,
    done: usize,
    /// What is to be sent, in this order. Whoever sends it takes it out.
    pub outgoing: Vec<u8>,
    /// The peer's end came while something was to be said, and was not yet told.
    end: bool,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// What became of the bytes that were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The peer has said something.
    Words,
    /// The peer has sent its close_notify. It is said once.
    End,
    /// Nothing more, until more is received.
    Nothing,
}

/// What is to be said once TLS is ready for it.
#[derive(Clone, Copy)]
enum Say<'a> {
    Nothing,
    Words(&'a [u8]),
    End,
}

/// One step of rustls's.
enum Step {
    /// There is more to do without the peer.
    Further,
    Heard(Heard),
    /// What was to be said is in the outgoing bytes.
    Said,
}

impl Session {
    /// Speaks first.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn client(config: Arc<ClientConfig>) -> io::Result<Self> {
        let session = UnbufferedClientConnection::new(config, tls::no_name()).map_err(invalid)?;
        Ok(Self::new(Side::Client(Box::new(session))))
    }

    /// Is spoken to.
    ///
    /// # Errors
    /// If the configuration is none.
    pub fn server(config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = UnbufferedServerConnection::new(config).map_err(invalid)?;
        Ok(Self::new(Side::Server(Box::new(session))))
    }

    fn new(side: Side) -> Self {
        Self { side, incoming: Vec::new(), done: 0, outgoing: Vec::new(), end: false }
    }

    /// What TLS knows of the connection.
    pub fn state(&self) -> &CommonState {
        match &self.side {
            Side::Client(session) => session,
            Side::Server(session) => session,
        }
    }

    /// Takes in what was received. [`Session::hear`] says what became of it.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.incoming.drain(..std::mem::take(&mut self.done));
        self.incoming.extend(bytes);
    }

    /// The same for what is read straight to its place, for which there is room for this much.
    ///
    /// # Errors
    /// What reading gives.
    pub fn receive_with(
        &mut self,
        room: usize,
        read: impl FnOnce(&mut Vec<u8>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        // What is left is a part of one record.
        self.incoming.drain(..std::mem::take(&mut self.done));
        self.incoming.reserve(room);
        let read = read(&mut self.incoming);
        self.free();
        read
    }

    /// Whether more was received than was taken. After the peer's close_notify, that is no TLS's.
    pub fn has_unread(&self) -> bool {
        self.done < self.incoming.len()
    }

    /// What was received and not taken.
    pub fn into_unread(mut self) -> Vec<u8> {
        self.incoming.split_off(self.done)
    }

    /// Nothing is kept while nothing is here.
    fn free(&mut self) {
        if self.done == self.incoming.len() {
            (self.incoming, self.done) = (Vec::new(), 0);
        }
    }

    /// What the peer says; its words are put behind what is in `words`. To be called until there is
    /// [`Heard::Nothing`], and again after each [`Session::receive`].
    ///
    /// # Errors
    /// `InvalidData` if the peer breaks TLS, or is not whom it should be. The alert that tells it so
    /// is in the outgoing bytes.
    pub fn hear(&mut self, words: &mut Vec<u8>) -> io::Result<Heard> {
        if std::mem::take(&mut self.end) {
            return Ok(Heard::End);
        }
        loop {
            match self.step(Say::Nothing, words) {
                Ok(Step::Further) => {}
                Ok(Step::Heard(Heard::Nothing) | Step::Said) => break,
                Ok(Step::Heard(heard)) => return Ok(heard),
                Err(why) => {
                    self.give_up();
                    return Err(invalid(why));
                }
            }
        }
        if self.incoming.len() - self.done > MAX_INCOMING {
            return Err(breach("a message of TLS that is too long"));
        }
        Ok(Heard::Nothing)
    }

    /// Says something, after the handshake. What the peer has said meanwhile is put behind what is in
    /// `heard`.
    ///
    /// # Errors
    /// If TLS is in no state for it, or as with [`Session::hear`].
    pub fn say(&mut self, words: &[u8], heard: &mut Vec<u8>) -> io::Result<()> {
        self.utter(Say::Words(words), heard)
    }

    /// Sends our close_notify: the last that is said.
    ///
    /// # Errors
    /// If TLS is in no state for it, or as with [`Session::hear`].
    pub fn end(&mut self, heard: &mut Vec<u8>) -> io::Result<()> {
        self.utter(Say::End, heard)
    }

    fn utter(&mut self, say: Say<'_>, heard: &mut Vec<u8>) -> io::Result<()> {
        loop {
            match self.step(say, heard).map_err(invalid)? {
                Step::Further | Step::Heard(Heard::Words) => {}
                Step::Heard(Heard::End) => self.end = true,
                Step::Said => return Ok(()),
                Step::Heard(Heard::Nothing) => return Err(io::ErrorKind::InvalidInput.into()),
            }
        }
    }

    /// Collects the alert after an error. It is one piece, and rustls hands it out before it looks at
    /// what was received; a second step would have it stumble over the same error once more.
    fn give_up(&mut self) {
        let _ = self.step(Say::Nothing, &mut Vec::new());
    }

    fn step(&mut self, say: Say<'_>, words: &mut Vec<u8>) -> Result<Step, Error> {
        let outgoing = &mut self.outgoing;
        let incoming = self.incoming.get_mut(self.done..).unwrap_or_default();
        let (done, step) = match &mut self.side {
            Side::Client(session) => {
                let UnbufferedStatus { discard, state, .. } = session.process_tls_records(incoming);
                (discard, state.and_then(|state| act(state, say, outgoing, words)))
            }
            Side::Server(session) => {
                let UnbufferedStatus { discard, state, .. } = session.process_tls_records(incoming);
                (discard, state.and_then(|state| act(state, say, outgoing, words)))
            }
        };
        self.done = (self.done + done).min(self.incoming.len());
        self.free();
        step
    }
}

/// Does what rustls is ready for.
fn act<D>(
    state: ConnectionState<'_, '_, D>,
    say: Say<'_>,
    out: &mut Vec<u8>,
    words: &mut Vec<u8>,
) -> Result<Step, Error> {
    match state {
        ConnectionState::ReadTraffic(mut traffic) => match traffic.next_record() {
            Some(record) => {
                words.extend(record?.payload);
                Ok(Step::Heard(Heard::Words))
            }
            None => Ok(Step::Further),
        },
        ConnectionState::PeerClosed => Ok(Step::Heard(Heard::End)),
        ConnectionState::EncodeTlsData(data) => encode(data, out),
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Further)
        }
        ConnectionState::WriteTraffic(traffic) => utter(traffic, say, out),
        ConnectionState::BlockedHandshake | ConnectionState::Closed => {
            Ok(Step::Heard(Heard::Nothing))
        }
        // Early data, which no configuration of ours takes.
        _ => Err(Error::General("a state of TLS that there cannot be".into())),
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, out: &mut Vec<u8>) -> Result<Step, Error> {
    let wanted = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            required_size
        }
        Ok(_) | Err(EncodeError::AlreadyEncoded) => return Ok(Step::Further),
    };
    append(out, wanted, |place| data.encode(place))
        .map(|()| Step::Further)
        .map_err(|why| Error::General(why.to_string()))
}

fn utter<D>(
    mut traffic: WriteTraffic<'_, D>,
    say: Say<'_>,
    out: &mut Vec<u8>,
) -> Result<Step, Error> {
    let mut write = |room: usize| match say {
        Say::Nothing => Ok(()),
        Say::Words(words) => append(out, room, |place| traffic.encrypt(words, place)),
        Say::End => append(out, room, |place| traffic.queue_close_notify(place)),
    };
    let words = if let Say::Words(words) = say { words.len() } else { 0 };
    let wrote = match write(words + OVERHEAD) {
        Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
            write(required_size)
        }
        wrote => wrote,
    };
    wrote.map_err(|why| Error::General(why.to_string()))?;
    Ok(if matches!(say, Say::Nothing) { Step::Heard(Heard::Nothing) } else { Step::Said })
}

/// Lets something be written behind what is to be sent already.
fn append<E>(
    out: &mut Vec<u8>,
    room: usize,
    write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
) -> Result<(), E> {
    let before = out.len();
    out.resize(before + room, 0);
    let wrote = write(out.get_mut(before..).unwrap_or_default());
    out.truncate(before + wrote.as_ref().map_or(0, |length| *length));
    wrote.map(|_| ())
}

fn invalid(why: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;
