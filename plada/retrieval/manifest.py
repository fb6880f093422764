"""The manifest of an index's images, taken from its table where no image need be hashed for it."""

from pathlib import Path

from plada.common.progress import Report, Tracker
from plada.errors import DataError
from plada.indexer.store import SCAN_ROWS, column_ledger, manifest_block
from plada.retrieval.table import IndexTable
from plada.sources.manifest import READABLE, Manifest, ManifestWriter, key_id, load_manifest
from plada.sources.reference import manifest_folder, manifests_in, save_reference

_COLUMNS = ["key", "size", "hash", "width", "height", "status"]


def keep_manifest_of(table: IndexTable, home: Path, report: Report) -> None:
    """Keep below a home what a table says of its images, as their manifest, unless it is there. The images themselves are compared
    with it when they are read, as with any other.

    Raises:
        DataError: the table says something else than its index.json; as IndexTable.readable says.
    """
    where, content = table.info["reference"], table.info["content_id"]
    folder = manifest_folder(home, str(where["location"]))
    kept = list(manifests_in(folder))
    if any(manifest.content_id.hex() == content for manifest in kept):
        return
    path = folder / (f"manifest-{content}.parquet" if kept else "manifest.parquet")
    manifest = _write(table, path, report)
    if not kept:
        save_reference(home, str(where["name"]), str(where["location"]), manifest)


def _write(table: IndexTable, path: Path, report: Report) -> Manifest:
    ledger, tracker = column_ledger(table.info, "key"), Tracker("manifest", int(table.info["images"]), report)
    bad, read = None, 0
    with ManifestWriter(path) as writer:
        for batch in table.batches(_COLUMNS, SCAN_ROWS):
            bad = bad if bad is not None or ledger is None else ledger.add(batch.column("key"))
            writer.write(manifest_block(batch, [reason or READABLE for reason in batch.column("status").to_pylist()]))
            read += batch.num_rows
            tracker.advance(batch.num_rows)
        if ledger is not None and bad is None and read % ledger.rows:
            bad = ledger.finish()
        content = writer.finish(bytes.fromhex(table.info["key_id"])).hex()
        if bad is not None or content != table.info["content_id"]:
            raise DataError(
                f"{table.path}: keys or content hashes are not those that were written; they are damaged. Copy or make the index "
                "again"
            )
    manifest = load_manifest(path)
    if ledger is None and key_id(manifest.keys()) != manifest.key_id:  # an older plada kept no digests of keys
        path.unlink()
        raise DataError(
            f"{table.path}: the keys are not those of index.json; they are damaged. Copy or make the index again"
        )
    return manifest
