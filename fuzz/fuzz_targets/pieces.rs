//! The pieces that a stream by a port goes in: however they are cut on the way, the same bytes come out of
//! them, the end is in the same place, and nothing behind it is touched.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wayhome::wire::pieces::{HEADER, Next, Position};
use wayhome_fuzz::Pieces;

fuzz_target!(|input: &[u8]| {
    let Some(mut cuts) = Pieces::of(input) else { return };
    let stream = cuts.rest();
    let (mut position, mut heard) = (Position::default(), Vec::new());
    let (mut at, mut there) = (0, 0);
    let has_ended = loop {
        match position.next(&stream[at..there]) {
            Next::Header => at += HEADER,
            Next::Bytes(length) => {
                // Whoever takes them may take less.
                let taken = 1 + length / 2;
                heard.extend_from_slice(&stream[at..at + taken]);
                position.took(taken);
                at += taken;
            }
            Next::End => break true,
            Next::Nothing => match cuts.next(usize::MAX).len() {
                0 => break false,
                more => there += more,
            },
        }
    };
    assert_eq!((heard, has_ended.then_some(at)), whole(stream));
});

/// The same of a stream that is there as a whole: its bytes, and where the end is, if it is there.
fn whole(mut stream: &[u8]) -> (Vec<u8>, Option<usize>) {
    let (length, mut heard) = (stream.len(), Vec::new());
    while let Some((header, rest)) = stream.split_first_chunk::<HEADER>() {
        let announced = usize::from(u16::from_be_bytes(*header));
        if announced == 0 {
            return (heard, Some(length - stream.len()));
        }
        let (piece, behind) = rest.split_at(announced.min(rest.len()));
        heard.extend_from_slice(piece);
        stream = behind;
    }
    (heard, None)
}
