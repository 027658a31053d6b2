//! A stream that a leg's TLS carries, in pieces: two bytes, big-endian, with a length, and so many bytes.
//! A piece of none is the end of its direction. TLS goes on after it, so that the leg can carry the next
//! stream, and no home has to come with a new one for each.

/// How many bytes the length has.
pub const HEADER: usize = 2;

/// The longest piece that we send. With its length it fills four records of TLS.
pub const MAX: usize = 4 * 16 * 1024 - HEADER;

/// Where in a stream of pieces one is.
#[derive(Debug, Default)]
pub struct Position {
    /// How much of the piece that has begun is still to come.
    left: usize,
}

/// What stands next in what has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The [`HEADER`] of a piece, which is to be passed over.
    Header,
    /// So many bytes of the stream.
    Bytes(usize),
    /// The header that is the end.
    End,
    /// Too little.
    Nothing,
}

impl Position {
    /// What stands at the beginning of what has come, behind all that was next before.
    pub fn next(&mut self, come: &[u8]) -> Next {
        if self.left > 0 {
            return match self.left.min(come.len()) {
                0 => Next::Nothing,
                there => Next::Bytes(there),
            };
        }
        match come.first_chunk() {
            None => Next::Nothing,
            Some([0, 0]) => Next::End,
            Some(length) => {
                self.left = usize::from(u16::from_be_bytes(*length));
                Next::Header
            }
        }
    }

    /// So many of the bytes that were next are taken.
    pub fn took(&mut self, taken: usize) {
        self.left = self.left.saturating_sub(taken);
    }
}

/// How a piece of this length begins. One that is longer than [`MAX`] is a mistake of ours.
pub fn header(length: usize) -> [u8; HEADER] {
    debug_assert!(length <= MAX, "{length}");
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_the_pieces_and_the_cuts_all_comes_out_and_stops_at_the_end(
            said in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
            behind in prop::collection::vec(any::<u8>(), 0..9),
            cuts in prop::collection::vec(1..90_usize, 1..9),
        ) {
            let mut stream = Vec::new();
            for piece in said.iter().map(Vec::as_slice).chain([&[][..]]) {
                stream.extend(header(piece.len()));
                stream.extend(piece);
            }
            stream.extend(&behind);
            let (mut position, mut at, mut there) = (Position::default(), 0, 0);
            let mut heard: Vec<u8> = vec![];
            let mut cuts = cuts.iter().cycle();
            loop {
                match position.next(&stream[at..there]) {
                    Next::Header => at += HEADER,
                    Next::Bytes(length) => {
                        let taken = length.min(*cuts.next().unwrap());
                        heard.extend(&stream[at..at + taken]);
                        position.took(taken);
                        at += taken;
                    }
                    Next::End => break,
                    Next::Nothing => there = stream.len().min(there + cuts.next().unwrap()),
                }
            }
            prop_assert_eq!(heard, said.concat());
            prop_assert_eq!(&stream[at + HEADER..], behind);
        }
    }

    #[test]
    fn the_longest_piece_fills_records() {
        assert_eq!((MAX + HEADER) % (16 * 1024), 0);
        assert_eq!(header(MAX), [0xff, 0xfe]);
    }
}
