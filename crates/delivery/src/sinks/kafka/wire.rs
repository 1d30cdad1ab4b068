//! Values as Kafka's protocol writes them: big-endian, and of every length bounded by the bytes that are there.

/// Bytes of a server that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Writes values, one after the other.
#[derive(Debug, Default)]
pub(super) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn i8(&mut self, value: i8) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// What comes before the elements of an array, or the bytes of a block.
    pub fn length(&mut self, count: usize) -> &mut Self {
        self.i32(i32::try_from(count).expect("what is sent is bounded far below 2 GiB"))
    }

    /// Of at most 32,767 bytes: names, users, hosts.
    pub fn string(&mut self, text: &str) -> &mut Self {
        let length = i16::try_from(text.len()).expect("names are bounded far below 32 KiB");
        self.i16(length).raw(text.as_bytes())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.length(bytes.len()).raw(bytes)
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Seven bits a byte, small ones of either sign in few bytes.
    pub fn varint(&mut self, value: i64) -> &mut Self {
        self.unsigned_varint(((value << 1) ^ (value >> 63)).cast_unsigned())
    }

    /// Seven bits a byte.
    pub fn unsigned_varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    /// Its length as a varint before it.
    pub fn short(&mut self, bytes: &[u8]) -> &mut Self {
        let length = i64::try_from(bytes.len()).expect("no slice is longer");
        self.varint(length).raw(bytes)
    }
}

/// Reads values, one after the other.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn i8(&mut self) -> Result<i8, Malformed> {
        self.array_of().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.array_of().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array_of().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array_of().map(i64::from_be_bytes)
    }

    /// Empty where there is none.
    pub fn string(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)
    }

    /// Empty where there are none.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.i32()?).unwrap_or(0);
        self.take(length)
    }

    /// Elements; each is at least a byte, so there are never more than bytes, whatever the server says.
    pub fn array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let mut found = Vec::new();
        for _ in 0..self.i32()?.max(0) {
            if self.0.is_empty() {
                return Err(Malformed);
            }
            found.push(element(self)?);
        }
        Ok(found)
    }

    /// Fields that a newer server may add, each with its length: nothing here needs one.
    pub fn skip_tagged(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let length = usize::try_from(self.unsigned_varint()?).map_err(|_| Malformed)?;
            self.take(length)?;
        }
        Ok(())
    }

    fn unsigned_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array_of()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (first, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_protocol_has_them() {
        let varint = |value| Writer::default().varint(value).0.clone();
        for (value, bytes) in [
            (0_i64, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (64, &[0x80, 1]),
            (-65, &[0x81, 1]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            assert_eq!(varint(value), bytes, "{value}");
        }
        assert_eq!(
            Writer::default().string("ab").i16(-2).0,
            [0, 2, b'a', b'b', 0xff, 0xfe]
        );
    }

    #[test]
    fn no_length_that_a_server_names_takes_more_than_it_sent() {
        let mut huge = Writer::default();
        huge.i32(i32::MAX).raw(&[0; 64]);
        assert_eq!(Reader(&huge.0).array(Reader::i32), Err(Malformed));
        assert_eq!(Reader(&huge.0).bytes(), Err(Malformed));
        assert_eq!(Reader(&[0x7f, 0xff, 1]).string(), Err(Malformed));
        assert_eq!(Reader(&[0xff, 0xff]).string(), Ok(""), "there is none");
        assert_eq!(Reader(&[0, 1, 0xff]).string(), Err(Malformed), "no UTF-8");
        assert_eq!(Reader(&[0xff; 9]).skip_tagged(), Err(Malformed));
        assert_eq!(Reader(&[1, 0, 2, 9, 9, 7]).skip_tagged(), Ok(()));
    }
}
