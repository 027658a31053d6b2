//! Frames: in whatever pieces they come, and whichever of the two readers reads them, they are the
//! same messages and end in the same way. What was read is written again, and read back.

#![no_main]

use std::fmt::Debug;
use std::io::ErrorKind;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use prost::Message;
use wayhome::wire::frame;
use wayhome::wire::messages::{FromAgent, FromGateway, Hello, Request, Response, Taken, Welcome};
use wayhome_fuzz::Pieces;

/// By how much a message may grow when it is written again: the number of an enum that is negative
/// has five bytes as some write it and ten as we do, and the lengths around it may take one more.
const GROWTH: usize = 8;

fuzz_target!(|input: &[u8]| {
    let Some(pieces) = Pieces::of(input) else { return };
    each::<Hello>(&pieces);
    each::<Welcome>(&pieces);
    each::<Taken>(&pieces);
    each::<FromAgent>(&pieces);
    each::<FromGateway>(&pieces);
    each::<Request>(&pieces);
    each::<Response>(&pieces);
});

/// How a stream of frames ends.
#[derive(Debug, PartialEq)]
enum End {
    /// With this much of a frame that is not whole.
    Begun(usize),
    /// With what must not be sent.
    Breach,
}

fn each<M: Message + Default + PartialEq + Debug>(pieces: &Pieces<'_>) {
    let whole = taken::<M>(&mut std::iter::once(pieces.rest()));
    let mut cut = pieces.clone();
    let cut = taken::<M>(&mut std::iter::from_fn(|| {
        Some(cut.next(usize::MAX)).filter(|piece| !piece.is_empty())
    }));
    assert_eq!(cut, whole, "the pieces make a difference");
    assert_eq!(read::<M>(pieces.clone()), whole, "the two readers do not agree");
    for message in whole.0 {
        let frame = frame::encode(&message);
        assert!(frame.len() <= 2 + frame::MAX + GROWTH, "{} bytes", frame.len());
        if frame.len() <= 2 + frame::MAX {
            let again = taken::<M>(&mut std::iter::once(&frame[..]));
            assert_eq!(again, (vec![message], End::Begun(0)));
        }
    }
}

/// What `take` makes of pieces, each given to it when nothing more is in those before.
fn taken<'a, M: Message + Default>(pieces: &mut dyn Iterator<Item = &'a [u8]>) -> (Vec<M>, End) {
    let (mut messages, mut begun) = (Vec::new(), Vec::new());
    for piece in pieces {
        begun.extend(piece);
        loop {
            let before = begun.len();
            match frame::take(&mut begun) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => {
                    assert_eq!(begun.len(), before, "something was taken, and nothing given");
                    break;
                }
                Err(why) => {
                    assert_eq!(why.kind(), ErrorKind::InvalidData);
                    return (messages, End::Breach);
                }
            }
        }
    }
    (messages, End::Begun(begun.len()))
}

/// What `read` makes of them.
fn read<M: Message + Default>(mut pieces: Pieces<'_>) -> (Vec<M>, End) {
    let mut messages = Vec::new();
    loop {
        let begun = pieces.rest().len();
        // Nothing here is ever waited for.
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(read) = pin!(frame::read(&mut pieces)).poll(&mut context) else {
            panic!("it waits for what is there")
        };
        match read {
            Ok(message) => messages.push(message),
            Err(why) if why.kind() == ErrorKind::UnexpectedEof => {
                return (messages, End::Begun(begun));
            }
            Err(why) => {
                assert_eq!(why.kind(), ErrorKind::InvalidData);
                return (messages, End::Breach);
            }
        }
    }
}
