//! Whole ringkv clusters from one seed, on a virtual clock, network and disk.
