//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

/// A node of a ringkv cluster.
///
/// Exit codes: 0 ended as asked, 1 failed while running or starting, 2 bad configuration, 3 the data directory is locked,
/// foreign, damaged or of a newer version.
#[derive(Clone, Debug, Default, clap::Parser)]
#[command(name = "kvnode", version)]
pub struct Flags {
    /// TOML file with the same settings; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory that holds everything this node keeps
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Common address; store i listens on the port + 1 + i
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// This node's number, from 1
    #[arg(long, value_name = "N")]
    pub node_id: Option<u32>,
    /// Stores to make at the first boot [default: one per core]; afterwards the data directory says
    #[arg(long, value_name = "N")]
    pub stores: Option<u16>,
    /// Executor threads: how many, or the CPUs for them (0,2 or 4-7) [default: one per allowed CPU]
    #[arg(long, value_name = "N|LIST")]
    pub cores: Option<String>,
    /// Bind executors to CPUs: auto (when they fit the allowed CPUs), none, or a list of CPUs
    #[arg(long, value_name = "auto|none|LIST")]
    pub pin: Option<String>,
    /// Microseconds that an idle executor looks for work before it sleeps [default: 0]
    #[arg(long, value_name = "N")]
    pub spin_us: Option<u64>,
    /// How to do I/O: auto, glommio (io_uring), plain (ordinary system calls)
    #[arg(long, value_name = "auto|glommio|plain")]
    pub host: Option<String>,
    /// Other nodes' common addresses, to ask for the cluster map when no members are listed
    #[arg(long, value_name = "HOST:PORT,..", value_delimiter = ',')]
    pub seeds: Vec<SocketAddr>,
    /// Cluster id: 32 hex digits, the same on every member
    #[arg(long, value_name = "HEX")]
    pub cluster: Option<String>,
    /// A member of the cluster, this node among them; once for each
    #[arg(long, value_name = "ID@HOST:PORT[/STORES]")]
    pub member: Vec<String>,
    /// Replicas of each shard of the first pool [default: 3]
    #[arg(long, value_name = "N")]
    pub replicas: Option<u8>,
    /// log2 of the shards of the first pool [default: 4]
    #[arg(long, value_name = "N")]
    pub shard_bits: Option<u8>,
    /// Listen beyond loopback although nothing is encrypted
    #[arg(long)]
    pub insecure: bool,
    /// End in good order when standard input does: a starter that dies takes its nodes along
    #[arg(long)]
    pub exit_with_stdin: bool,
}
