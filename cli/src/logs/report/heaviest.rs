//! Who carried the most, in bounded memory however many there are. Pure.
//!
//! Sums are kept for up to twice [`MAX_KEPT`] keys. Then the smaller half is added up as "others", and a key of it that comes
//! again begins anew. So no byte is lost, and a sum can be too low by no more than the largest that was given up each time,
//! which is counted and told.

use std::collections::BTreeMap;

use super::gather::Sum;

/// Keys that stay. A page shows fifty; what is a hundred times smaller than its last line does not push anyone off it.
pub(super) const MAX_KEPT: usize = 5_000;

/// Sums per key.
#[derive(Debug, Clone)]
pub(super) struct Heaviest<K> {
    sums: BTreeMap<K, Sum>,
    others: Sum,
    cuts: u64,
    too_low_by: u64,
}

impl<K> Default for Heaviest<K> {
    fn default() -> Self {
        Self { sums: BTreeMap::new(), others: Sum::default(), cuts: 0, too_low_by: 0 }
    }
}

/// The largest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ranking<'a, K> {
    pub(super) top: Vec<(&'a K, Sum)>,
    /// All others together.
    pub(super) others: Sum,
    /// How many others there are; `None` if not even that is known.
    pub(super) other_count: Option<usize>,
    /// Bytes by which each of `top` may be too low.
    pub(super) too_low_by: u64,
}

impl<K: Ord> Heaviest<K> {
    pub(super) fn add(&mut self, key: K, sum: Sum) {
        self.sums.entry(key).or_default().add(sum);
        if self.sums.len() >= 2 * MAX_KEPT {
            self.cut();
        }
    }

    pub(super) fn top(&self, most: usize) -> Ranking<'_, K> {
        let mut top: Vec<_> = self.sums.iter().map(|(key, sum)| (key, *sum)).collect();
        top.sort_by(|a, b| b.1.bytes().cmp(&a.1.bytes()).then_with(|| a.0.cmp(b.0)));
        let rest = top.split_off(most.min(top.len()));
        let mut others = self.others;
        rest.iter().for_each(|(_, sum)| others.add(*sum));
        let other_count = (self.cuts == 0).then_some(rest.len());
        Ranking { top, others, other_count, too_low_by: self.too_low_by }
    }

    fn cut(&mut self) {
        let mut sizes: Vec<_> = self.sums.values().map(Sum::bytes).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let largest_gone = sizes.get(MAX_KEPT).copied().unwrap_or_default();
        let others = &mut self.others;
        self.sums.retain(|_, sum| {
            let stays = sum.bytes() > largest_gone;
            if !stays {
                others.add(*sum);
            }
            stays
        });
        self.cuts += 1;
        self.too_low_by = self.too_low_by.saturating_add(largest_gone);
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.sums.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn bytes(sent: u64) -> Sum {
        Sum { packets: 1, sent, received: 0 }
    }

    #[test]
    fn the_largest_come_first_and_the_rest_is_added_up() {
        let mut heaviest = Heaviest::default();
        for (name, sent) in [("a", 5), ("b", 9), ("c", 1), ("a", 5), ("d", 2)] {
            heaviest.add(name, bytes(sent));
        }
        let ranking = heaviest.top(2);
        assert_eq!(
            ranking.top.iter().map(|(name, sum)| (**name, sum.sent)).collect::<Vec<_>>(),
            [("a", 10), ("b", 9)]
        );
        assert_eq!((ranking.others.sent, ranking.other_count, ranking.too_low_by), (3, Some(2), 0));
    }

    #[test]
    fn of_many_keys_few_are_kept_the_largest_is_found_and_no_byte_is_lost() {
        let mut heaviest = Heaviest::default();
        for key in 0..200_000_u32 {
            heaviest.add(key, bytes(10));
            heaviest.add(u32::MAX, bytes(1));
            assert!(heaviest.kept() < 2 * MAX_KEPT);
        }
        let ranking = heaviest.top(5);
        let (key, sum) = ranking.top[0];
        assert_eq!(*key, u32::MAX);
        assert!(sum.sent + ranking.too_low_by >= 200_000 && ranking.too_low_by > 0);
        let all: u64 = ranking.top.iter().map(|(_, sum)| sum.sent).sum();
        assert_eq!(all + ranking.others.sent, 2_200_000);
        assert_eq!(ranking.other_count, None);
    }
}
