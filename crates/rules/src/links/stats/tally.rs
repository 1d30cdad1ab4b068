//! The visits of a link in a period: how many, by what, and of how many clients.

use datasketches::hll::{HllSketch, HllType, HllUnion};
use serde::{Deserialize, Serialize};
use tollgate_store::packed;

use super::seen::Seen;

/// Values that are counted by name, for each dimension. The visits of others are counted together.
pub const MAX_VALUES: usize = 50;
/// The most bytes of a tally: every dimension with [`MAX_VALUES`] of the longest, and a full sketch. A test fills one.
pub const MAX_BYTES: usize = 8_192;
/// The form that tallies are written in.
const FORM: u8 = 1;
/// Two to this many registers: a standard error of 2.3 %, in at most 1,064 bytes. Up to some 190 clients are kept one by one.
const LG_REGISTERS: u8 = 11;

/// The visits by the values of one dimension.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// Most visits first; the empty value is what is not known.
    pub named: Vec<(String, u64)>,
    /// Of values that are not named.
    pub rest: u64,
}

impl Values {
    fn add(&mut self, value: &str, times: u64) {
        match self.named.iter_mut().find(|(named, _)| named == value) {
            Some((_, count)) => *count = count.saturating_add(times),
            None => self.named.push((value.to_owned(), times)),
        }
    }

    /// Adds those of another period.
    pub fn merge(&mut self, other: &Self) {
        for (value, times) in &other.named {
            self.add(value, *times);
        }
        self.rest = self.rest.saturating_add(other.rest);
    }

    /// Names [`MAX_VALUES`], those with the most visits, and no others.
    pub fn bound(&mut self) {
        self.named
            .sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
        let dropped = self.named.drain(MAX_VALUES.min(self.named.len())..);
        let dropped: u64 = dropped.map(|(_, count)| count).sum();
        self.rest = self.rest.saturating_add(dropped);
    }
}

/// Clients, roughly counted: however often one comes, it counts once.
#[derive(Clone, Debug)]
pub struct Clients(HllSketch);

impl Default for Clients {
    fn default() -> Self {
        let sketch = HllSketch::new(LG_REGISTERS, HllType::Hll4);
        Self(sketch.expect("the number of registers is one that a sketch may have"))
    }
}

impl Clients {
    fn add(&mut self, client: u64) {
        self.0.update(client);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.estimate().round() as u64
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Visits that were counted.
    pub visits: u64,
    /// Of machines, which are not counted.
    pub bots: u64,
    /// By [`super::Dimension::ALL`].
    pub values: [Values; 6],
    /// Of the visits that were counted.
    pub clients: Clients,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    visits: u64,
    bots: u64,
    /// The count of the sketch, for readers of nothing else.
    unique: u64,
    values: [Values; 6],
    #[serde(with = "serde_bytes", borrow)]
    clients: std::borrow::Cow<'a, [u8]>,
}

impl Tally {
    /// Adds a visit that was noted so often.
    pub fn add(&mut self, seen: &Seen, times: u64) {
        if seen.is_bot {
            self.bots = self.bots.saturating_add(times);
            return;
        }
        self.visits = self.visits.saturating_add(times);
        self.clients.add(seen.client);
        for (values, value) in self.values.iter_mut().zip(&seen.values) {
            values.add(value, times);
        }
    }

    /// Adds those of another period.
    pub fn merge(&mut self, other: &Self) {
        self.visits = self.visits.saturating_add(other.visits);
        self.bots = self.bots.saturating_add(other.bots);
        for (values, others) in self.values.iter_mut().zip(&other.values) {
            values.merge(others);
        }
        let mut together = Together::default();
        together.add(&self.clients);
        together.add(&other.clients);
        self.clients = Clients(together.0.to_sketch(HllType::Hll4));
    }

    /// As an entry's value.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.values.iter_mut().for_each(Values::bound);
        let kept = Kept {
            visits: self.visits,
            bots: self.bots,
            unique: self.clients.count(),
            values: self.values,
            clients: self.clients.0.serialize().into(),
        };
        packed::pack(&(FORM, kept), 512)
    }

    /// Of an entry's value; `None` if it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let kept = Kept::of(bytes)?;
        let clients = HllSketch::deserialize(&kept.clients).ok()?;
        Some(Self {
            visits: kept.visits,
            bots: kept.bots,
            values: kept.values,
            clients: Clients(clients),
        })
    }

    /// The clients of a tally and its visits of machines, without the rest of it.
    pub fn told(bytes: &[u8]) -> Option<(u64, u64)> {
        Kept::of(bytes).map(|kept| (kept.unique, kept.bots))
    }
}

impl<'a> Kept<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let ((form, kept), rest) = postcard::take_from_bytes::<(u8, Self)>(bytes).ok()?;
        (form == FORM && rest.is_empty()).then_some(kept)
    }
}

/// The clients of several periods together.
pub struct Together(HllUnion);

impl Default for Together {
    fn default() -> Self {
        let union = HllUnion::new(LG_REGISTERS);
        Self(union.expect("the number of registers is one that a sketch may have"))
    }
}

impl Together {
    /// Adds those of a period.
    pub fn add(&mut self, clients: &Clients) {
        self.0.update(&clients.0);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.estimate().round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    /// The longest values of each dimension.
    const LONGEST: [usize; 6] = [64, 7, 9, 10, 2, 3];

    /// With values as long as they can be.
    fn full(client: u64, number: u64) -> Seen {
        let digits = format!("{number:064}");
        Seen {
            values: LONGEST.map(|length| Cow::Owned(digits[64 - length..].to_owned())),
            ..seen(client, "")
        }
    }

    fn seen(client: u64, value: &str) -> Seen {
        Seen {
            at: 0,
            client,
            is_bot: false,
            values: std::array::from_fn(|_| Cow::Owned(value.to_owned())),
            told: Default::default(),
        }
    }

    fn again(tally: Tally) -> Tally {
        let (clients, tally_bots) = (tally.clients.count(), tally.bots);
        let bytes = tally.into_bytes();
        assert!(bytes.len() <= MAX_BYTES, "{} bytes", bytes.len());
        assert_eq!(Tally::told(&bytes), Some((clients, tally_bots)));
        Tally::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn a_tally_is_bounded_and_loses_no_visit() {
        let mut tally = Tally::default();
        // As many and as long values as there can be, in many portions, each visited by clients of its own.
        for portion in 0..20_u64 {
            for n in 0..500 {
                let number = portion * 500 + n;
                tally.add(&full(number, number), 1_000_000 * (1 + number % 3));
            }
            tally.add(
                &Seen {
                    is_bot: true,
                    ..seen(portion, "")
                },
                2,
            );
            tally = again(tally);
        }
        let visits: u64 = (0..10_000).map(|number| 1_000_000 * (1 + number % 3)).sum();
        assert_eq!((tally.visits, tally.bots), (visits, 40));
        for values in &tally.values {
            assert_eq!(values.named.len(), MAX_VALUES);
            let named: u64 = values.named.iter().map(|(_, count)| count).sum();
            assert_eq!(named + values.rest, visits);
        }
        let clients = tally.clients.count();
        assert!((9_000..=11_000).contains(&clients), "{clients} clients");
    }

    #[test]
    fn what_is_visited_most_is_named() {
        let mut tally = Tally::default();
        for n in 0..200 {
            tally.add(&seen(1, &n.to_string()), 1 + n % 200);
        }
        let tally = again(tally);
        assert_eq!(tally.values[0].named[0], ("199".to_owned(), 200));
        assert_eq!(tally.values[0].named[49], ("150".to_owned(), 151));
        assert_eq!(tally.clients.count(), 1);
    }

    #[test]
    fn few_clients_are_counted_exactly_and_periods_overlap() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        (0..100).for_each(|n| one.add(&seen(n, ""), 1));
        (50..150).for_each(|n| other.add(&seen(n, ""), 3));
        let (one, other) = (again(one), again(other));
        let mut together = Together::default();
        together.add(&one.clients);
        together.add(&other.clients);
        assert_eq!(
            (one.clients.count(), other.clients.count(), together.count()),
            (100, 100, 150)
        );
    }

    #[test]
    fn a_usual_hour_takes_little() {
        let mut tally = Tally::default();
        for n in 0..10 {
            tally.add(&seen(n, ["firefox", "chrome", "safari"][n as usize % 3]), 1);
        }
        let bytes = tally.into_bytes().len();
        assert!(bytes < 400, "{bytes} bytes");
    }

    #[test]
    fn what_is_damaged_is_none() {
        let bytes = Tally::default().into_bytes();
        for cut in 0..bytes.len() {
            assert!(Tally::from_bytes(&bytes[..cut]).is_none(), "{cut}");
        }
        assert!(Tally::from_bytes(&[&[9], &bytes[1..]].concat()).is_none());
    }
}
