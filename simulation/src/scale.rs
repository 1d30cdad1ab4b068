//! What a fleet of many databases would rest on, before anybody builds it (`docs/scale.md`): a hot campaign split into stocks that databases
//! lend each other, a lane that moves from one to another, and limits that a thousand gateways share. Each with deliberate bugs, which must
//! be found.

mod edge;
mod lanes;
mod stock;

/// A generator of numbers that any machine gives alike (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
}
