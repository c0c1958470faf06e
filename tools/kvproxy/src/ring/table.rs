//! Where the keys of Redis's commands stand.

use std::collections::HashMap;
use std::sync::LazyLock;

/// How a command is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// Every key is in the same server: the first at this argument, then each `step` arguments on, up to `last` (which
    /// counts from the end when it is negative).
    Keys {
        /// Argument of the first.
        first: usize,
        /// Argument of the last.
        last: isize,
        /// From one to the next.
        step: usize,
    },
    /// The keys follow their number, which is at argument `at`; another key may stand at argument 1.
    Counted {
        /// Argument of the number.
        at: usize,
        /// Argument 1 is a key too.
        target: bool,
    },
    /// Split among servers, the answers joined.
    Split(Split),
    /// Refused, with the reason.
    Refused(&'static str),
}

/// A command that is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// `MGET key ..`
    Mget,
    /// `MSET key value ..`
    Mset,
    /// `DEL key ..` and other commands that count keys, and change them.
    Remove,
    /// `EXISTS key ..` and other commands that count keys.
    Count,
}

/// Commands with one key, as the first argument.
const ONE: &str =
    "APPEND BITCOUNT BITFIELD BITFIELD_RO BITPOS DECR DECRBY DUMP EXPIRE EXPIREAT EXPIRETIME GEOADD GEODIST
    GEOHASH GEOPOS GEORADIUS_RO GEORADIUSBYMEMBER_RO GEOSEARCH GET GETBIT GETDEL GETEX GETRANGE GETSET HDEL HEXISTS
    HEXPIRE HEXPIREAT HEXPIRETIME HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HPERSIST
    HPEXPIRE HPEXPIREAT HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSET HSETEX HSETNX HSTRLEN HTTL HVALS INCR INCRBY
    INCRBYFLOAT LINDEX LINSERT LLEN LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM PERSIST PEXPIRE PEXPIREAT PEXPIRETIME
    PFADD PSETEX PTTL RESTORE RPOP RPUSH RPUSHX SADD SCARD SET SETBIT SETEX SETNX SETRANGE SISMEMBER SMEMBERS
    SMISMEMBER SPOP SRANDMEMBER SREM SSCAN STRLEN SUBSTR TTL TYPE XACK XADD XAUTOCLAIM XCLAIM XDEL XLEN XPENDING XRANGE
    XREVRANGE XSETID XTRIM ZADD ZCARD ZCOUNT ZINCRBY ZLEXCOUNT ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX
    ZRANGEBYSCORE ZRANK ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE
    ZREVRANK ZSCAN ZSCORE";
/// Commands with one key, behind the name of a subcommand.
const SECOND: &str = "OBJECT XGROUP XINFO";
/// Commands with a key as first and second argument.
const TWO: &str = "COPY GEOSEARCHSTORE LCS LMOVE RENAME RENAMENX RPOPLPUSH SMOVE ZRANGESTORE";
/// Commands all of whose arguments are keys.
const ALL: &str = "PFCOUNT PFMERGE SDIFF SDIFFSTORE SINTER SINTERSTORE SUNION SUNIONSTORE";
/// Commands whose keys are counted by their first argument.
const COUNTED: &str = "LMPOP SINTERCARD ZDIFF ZINTER ZINTERCARD ZMPOP ZUNION";
/// The same behind a key that is written.
const COUNTED_TARGET: &str = "ZDIFFSTORE ZINTERSTORE ZUNIONSTORE";
/// Commands that count the keys they change.
const REMOVE: &str = "DEL UNLINK TOUCH";

/// What is refused, by reason.
const REFUSED: [(&str, &str); 6] = [
    (
        "connections to servers are shared: no command may wait",
        "BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN WAIT WAITAOF XREAD XREADGROUP",
    ),
    ("connections to servers are shared: no transactions", "MULTI EXEC DISCARD WATCH UNWATCH"),
    (
        "connections to servers are shared: no subscriptions",
        "SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE PUBLISH SPUBLISH PUBSUB MONITOR",
    ),
    (
        "it names no key by which a server could be chosen",
        "DBSIZE FLUSHALL FLUSHDB KEYS RANDOMKEY SCAN SWAPDB MOVE TIME LASTSAVE SCRIPT FUNCTION",
    ),
    (
        "it may touch keys that it does not name",
        "EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO SORT SORT_RO GEORADIUS GEORADIUSBYMEMBER MIGRATE",
    ),
    (
        "it is about one server: ask that server",
        "ACL AUTH BGREWRITEAOF BGSAVE CLUSTER DEBUG FAILOVER LATENCY MEMORY MODULE PSYNC READONLY READWRITE REPLICAOF ROLE SAVE SHUTDOWN SLAVEOF SLOWLOG SYNC",
    ),
];

static TABLE: LazyLock<HashMap<&'static str, Routing>> = LazyLock::new(|| {
    let mut table = HashMap::new();
    let mut add = |names: &'static str, routing: Routing| {
        table.extend(names.split_whitespace().map(|name| (name, routing)));
    };
    let keys = |first, last, step| Routing::Keys { first, last, step };
    add(ONE, keys(1, 1, 1));
    add(SECOND, keys(2, 2, 1));
    add(TWO, keys(1, 2, 1));
    add(ALL, keys(1, -1, 1));
    add("BITOP", keys(2, -1, 1));
    add("MSETNX", keys(1, -1, 2));
    add(COUNTED, Routing::Counted { at: 1, target: false });
    add(COUNTED_TARGET, Routing::Counted { at: 2, target: true });
    add("MGET", Routing::Split(Split::Mget));
    add("MSET", Routing::Split(Split::Mset));
    add(REMOVE, Routing::Split(Split::Remove));
    add("EXISTS", Routing::Split(Split::Count));
    for (reason, names) in REFUSED {
        add(names, Routing::Refused(reason));
    }
    table
});

/// How the command of this name, in whatever case, is routed; `None` when the proxy does not know it.
pub fn routing(name: &[u8]) -> Option<Routing> {
    let mut upper = [0; 24];
    let upper = upper.get_mut(..name.len())?;
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    TABLE.get(std::str::from_utf8(upper).ok()?).copied()
}

impl Routing {
    /// The places of the keys in a command of `count` arguments; `None` when it has none where they should be. `number`
    /// gives the number that an argument is.
    pub fn keys(self, count: usize, number: impl Fn(usize) -> Option<usize>) -> Option<impl Iterator<Item = usize>> {
        let (target, first, last, step) = match self {
            Routing::Keys { first, last, step } => {
                let last = if last < 0 { count.checked_sub(last.unsigned_abs())? } else { last.unsigned_abs() };
                (false, first, last, step)
            }
            Routing::Counted { at, target } => (target, at + 1, at.checked_add(number(at).filter(|n| *n > 0)?)?, 1),
            Routing::Split(_) | Routing::Refused(_) => return None,
        };
        let target = target.then_some(1);
        (first <= last && last < count).then(|| target.into_iter().chain((first..=last).step_by(step)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(line: &str) -> Option<Vec<String>> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at)?.parse().ok();
        let places = routing(words[0].as_bytes())?.keys(words.len(), number)?;
        Some(places.map(|at| words[at].to_owned()).collect())
    }

    #[test]
    fn keys_are_found_where_they_stand() {
        for (line, found) in [
            ("get a", vec!["a"]),
            ("SET a b EX 5", vec!["a"]),
            ("object encoding a", vec!["a"]),
            ("rename a b", vec!["a", "b"]),
            ("sunion a b c", vec!["a", "b", "c"]),
            ("bitop and a b c", vec!["a", "b", "c"]),
            ("msetnx a 1 b 2", vec!["a", "b"]),
            ("zunion 2 a b WITHSCORES", vec!["a", "b"]),
            ("zunionstore a 2 b c", vec!["a", "b", "c"]),
        ] {
            assert_eq!(keys(line).unwrap(), found, "{line}");
        }
        for line in [
            "get",
            "rename a",
            "sunion",
            "zunion x a",
            "zunion 3 a b",
            "zunion 0 a",
            "zunion 18446744073709551615 a",
            "object",
            "keys *",
            "nonsense a",
        ] {
            assert_eq!(keys(line), None, "{line}");
        }
    }

    #[test]
    fn no_command_has_two_meanings() {
        let lists = [ONE, SECOND, TWO, ALL, COUNTED, COUNTED_TARGET, REMOVE, "BITOP MSETNX MGET MSET EXISTS"];
        let names = lists.iter().flat_map(|list| list.split_whitespace());
        let refused = REFUSED.iter().flat_map(|(_, names)| names.split_whitespace());
        assert_eq!(names.chain(refused).count(), TABLE.len());
    }
}
