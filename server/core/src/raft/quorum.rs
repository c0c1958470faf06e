//! Majorities, in simple and in joint configurations (Raft §6): a joint one needs both.

use ringkv_wire::ids::StoreId;
use ringkv_wire::msg::config::{Configuration, Replica};

fn halves(config: &Configuration) -> impl Iterator<Item = &[Replica]> {
    let outgoing = Some(config.outgoing.as_slice()).filter(|outgoing| !outgoing.is_empty());
    [Some(config.voters.as_slice()), outgoing].into_iter().flatten()
}

/// Whether `store` votes.
pub(super) fn votes(config: &Configuration, store: StoreId) -> bool {
    halves(config).flatten().any(|replica| replica.store == store)
}

/// Every voter once, in order.
pub(super) fn voters(config: &Configuration) -> Vec<StoreId> {
    let mut stores: Vec<_> = halves(config).flatten().map(|replica| replica.store).collect();
    stores.sort_unstable();
    stores.dedup();
    stores
}

/// Whether `store` votes or learns.
pub(super) fn is_member(config: &Configuration, store: StoreId) -> bool {
    votes(config, store) || config.learners.iter().any(|replica| replica.store == store)
}

/// Voters and learners, each once, in order.
pub(super) fn members(config: &Configuration) -> Vec<StoreId> {
    let mut stores = voters(config);
    stores.extend(config.learners.iter().map(|replica| replica.store));
    stores.sort_unstable();
    stores.dedup();
    stores
}

/// Whether those for whom `yes` holds are a majority.
pub(super) fn majority(config: &Configuration, yes: impl Fn(StoreId) -> bool) -> bool {
    !config.voters.is_empty()
        && halves(config).all(|half| half.iter().filter(|replica| yes(replica.store)).count() > half.len() / 2)
}

/// The greatest value that a majority has reached; 0 when nobody votes.
pub(super) fn reached(config: &Configuration, value: impl Fn(StoreId) -> u64) -> u64 {
    if config.voters.is_empty() {
        return 0;
    }
    let of = |half: &[Replica]| {
        let mut values: Vec<u64> = half.iter().map(|replica| value(replica.store)).collect();
        values.sort_unstable();
        values[(values.len() - 1) / 2]
    };
    halves(config).map(of).min().unwrap_or(0)
}

/// The lower median of the values known, once they are a majority's; in a joint configuration the lesser of both.
pub(super) fn lower_median(config: &Configuration, value: impl Fn(StoreId) -> Option<u64>) -> Option<u64> {
    if config.voters.is_empty() {
        return None;
    }
    let mut least = u64::MAX;
    for half in halves(config) {
        let mut values: Vec<u64> = half.iter().filter_map(|replica| value(replica.store)).collect();
        if values.len() <= half.len() / 2 {
            return None;
        }
        values.sort_unstable();
        least = least.min(values[(values.len() - 1) / 2]);
    }
    Some(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(voters: &[u32], outgoing: &[u32]) -> Configuration {
        let of = |nodes: &[u32]| {
            let stores: Vec<_> = nodes.iter().map(|&n| StoreId::new(n, 0)).collect();
            Configuration::of_voters(&stores).voters
        };
        Configuration { voters: of(voters), learners: Vec::new(), outgoing: of(outgoing) }
    }

    #[test]
    fn a_majority_has_reached_the_value() {
        let value = |store: StoreId| u64::from(store.node.0) * 10;
        assert_eq!(reached(&config(&[1], &[]), value), 10);
        assert_eq!(reached(&config(&[1, 2], &[]), value), 10);
        assert_eq!(reached(&config(&[1, 2, 3], &[]), value), 20);
        assert_eq!(reached(&config(&[1, 2, 3, 4], &[]), value), 20);
        assert_eq!(reached(&config(&[1, 2, 3, 4, 5], &[]), value), 30);
        assert_eq!(reached(&config(&[], &[]), value), 0);
    }

    #[test]
    fn joint_configurations_need_both_majorities() {
        let joint = config(&[4, 5, 6], &[1, 2, 3]);
        assert_eq!(reached(&joint, |store| u64::from(store.node.0)), 2);
        assert!(!majority(&joint, |store| store.node.0 >= 3));
        assert!(majority(&joint, |store| (2..=5).contains(&store.node.0)));
        assert!(!majority(&config(&[], &[1]), |_| true), "nobody votes, nobody wins");
        assert_eq!(voters(&config(&[1, 2], &[2, 3])).len(), 3);
    }
}
