//! Where the records of TLS end, in a stream that is read (RFC 8446, section 5.1): a header of five
//! bytes, of which the last two are the length of the body, and the body.
//!
//! It says how much may be read, and is told what was. What is in a record is not its concern, nor
//! is the socket: that is [`super::leg`]'s.

/// The content's type, the version, and the length.
const HEADER: usize = 5;

/// How far a stream of records has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The header of the record that is being read, and how much of it is here.
    header: [u8; HEADER],
    have: usize,
    /// How much of its body is still to come.
    body: usize,
}

impl Position {
    /// The most that may be read at once without crossing the end of a record. Never 0: a stream may
    /// go on for ever.
    pub fn may_read(&self) -> usize {
        if self.have < HEADER { HEADER - self.have } else { self.body }
    }

    /// Whether a record has ended here, and none has begun; so it is where nothing was read yet.
    pub fn is_between_records(&self) -> bool {
        self.have == 0
    }

    /// Takes in what was read, which is no more than may be.
    pub fn take_in(&mut self, bytes: &[u8]) {
        if self.have == HEADER {
            self.body = self.body.saturating_sub(bytes.len());
        } else {
            for (place, byte) in self.header.iter_mut().skip(self.have).zip(bytes) {
                *place = *byte;
            }
            self.have += bytes.len();
            let [.., high, low] = self.header;
            self.body = usize::from(u16::from_be_bytes([high, low]));
        }
        if self.have == HEADER && self.body == 0 {
            self.have = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(length: u16) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        let mut record = vec![23, 3, 3, high, low];
        record.resize(HEADER + usize::from(length), 7);
        record
    }

    #[test]
    fn the_header_comes_first_and_says_how_much_follows() {
        let mut position = Position::default();
        assert_eq!(position.may_read(), 5);
        position.take_in(&[23, 3]);
        assert_eq!(position.may_read(), 3);
        position.take_in(&[3, 1, 2]);
        assert_eq!(position.may_read(), 258);
        position.take_in(&[7; 257]);
        assert!(position.may_read() == 1 && !position.is_between_records());
        position.take_in(&[5]);
        assert!(position.may_read() == 5 && position.is_between_records());
    }

    #[test]
    fn a_record_without_a_body_ends_with_its_header() {
        let mut position = Position::default();
        position.take_in(&record(0));
        assert!(position.may_read() == 5 && position.is_between_records());
    }

    #[test]
    fn nothing_read_is_nothing_new() {
        for read in [&b""[..], &[23], &[23, 3, 3, 0, 9], &[23, 3, 3, 0, 0]] {
            let mut position = Position::default();
            position.take_in(read);
            let before = position.clone();
            position.take_in(&[]);
            assert_eq!(position, before);
        }
    }

    proptest! {
        #[test]
        fn each_end_of_a_record_is_stopped_at(
            lengths in proptest::collection::vec(prop_oneof![0..4_u16, any::<u16>()], 1..6),
            cuts in proptest::collection::vec(prop_oneof![1..9_usize, 1..70_000_usize], 1..9),
        ) {
            let (mut position, mut ends, mut stopped) = (Position::default(), vec![], vec![]);
            let mut stream = Vec::new();
            for length in lengths {
                stream.extend(record(length));
                ends.push(stream.len());
            }
            let (mut read, mut cuts) = (0, cuts.iter().cycle());
            while read < stream.len() {
                let most = position.may_read().min(*cuts.next().unwrap());
                prop_assert!(most > 0);
                let piece = &stream[read..stream.len().min(read + most)];
                position.take_in(piece);
                read += piece.len();
                if position.is_between_records() {
                    stopped.push(read);
                }
            }
            prop_assert_eq!(stopped, ends);
        }
    }
}
