//! The reader of TLS records, which is what makes the unwrapping of a leg exact: in whatever pieces
//! a stream comes, it stops at each end of a record, and there alone it says that one has ended.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use wayhome::wire::record::Position;
use wayhome_fuzz::Pieces;

fuzz_target!(|input: &[u8]| {
    let Some(mut pieces) = Pieces::of(input) else { return };
    let ends = ends(pieces.rest());
    let (mut position, mut read) = (Position::default(), 0);
    loop {
        let most = position.may_read();
        assert!(most > 0, "nothing may be read at {read}");
        let crossed = ends.range(read + 1..read + most).next();
        assert_eq!(crossed, None, "{most} bytes from {read} on");
        let piece = pieces.next(most);
        position.take_in(piece);
        read += piece.len();
        assert_eq!(position.is_between_records(), ends.contains(&read), "at {read}");
        if piece.is_empty() {
            break;
        }
    }
});

/// Where records end in a stream that is there as a whole; its beginning is such a place, too.
fn ends(stream: &[u8]) -> BTreeSet<usize> {
    let mut ends = BTreeSet::from([0]);
    let mut at = 0;
    while let Some([_, _, _, high, low]) = stream.get(at..).and_then(<[u8]>::first_chunk) {
        at += 5 + usize::from(*high) * 256 + usize::from(*low);
        ends.insert(at);
    }
    ends
}
