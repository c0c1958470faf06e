//! A merge of tables, slice by slice.

use crate::disk::Disk;
use crate::engine::EngineState;
use crate::error::StorageError;
use crate::iter::MergeIter;
use crate::sst::reader::Table;
use crate::sst::writer::Unborn;
use std::rc::Rc;

/// Writes the newest version of each key of `tables` (newest first) into a new table, durable with its name; none when nothing
/// is left. Tombstones go when the tables reach `to_the_oldest`. The guard removes the file unless it is kept.
pub(crate) async fn merge_tables<D: Disk>(
    engine: &Rc<EngineState<D>>,
    tables: &[Rc<Table<D>>],
    to_the_oldest: bool,
) -> Result<Option<(Rc<Table<D>>, Unborn)>, StorageError> {
    let keys = tables.iter().map(|table| table.properties().entries).sum();
    let mut records = MergeIter::new(&[], tables);
    let mut writer = engine.new_table(keys).await?;
    while let Some(record) = records.next().await? {
        if record.value.is_some() || !to_the_oldest {
            writer.add(record.tree_key(), record.version, record.value.as_deref()).await?;
        } else {
            writer.skip(record.key.len()).await;
        }
    }
    if writer.is_empty() {
        return Ok(None);
    }
    let (place, unborn) = writer.finish().await?;
    engine.disk.sync_dir(&engine.tables_dir).await?;
    Ok(Some((engine.open_table(place).await?, unborn)))
}
