// RocksDB's C API with bytes as bytes: RocksDB takes keys and values as `char *`, Swift's arrays are of `uint8_t`.
#ifndef MUSTER_CROCKSDB_SHIM_H
#define MUSTER_CROCKSDB_SHIM_H

#include <rocksdb/c.h>
#include <stddef.h>
#include <stdint.h>

static inline void crocksdb_batch_put(
    rocksdb_writebatch_t *batch, const uint8_t *key, size_t key_count, const uint8_t *value, size_t value_count) {
  rocksdb_writebatch_put(batch, (const char *)key, key_count, (const char *)value, value_count);
}

static inline void crocksdb_batch_delete(rocksdb_writebatch_t *batch, const uint8_t *key, size_t key_count) {
  rocksdb_writebatch_delete(batch, (const char *)key, key_count);
}

static inline void crocksdb_batch_delete_range(
    rocksdb_writebatch_t *batch, const uint8_t *from, size_t from_count, const uint8_t *to, size_t to_count) {
  rocksdb_writebatch_delete_range(batch, (const char *)from, from_count, (const char *)to, to_count);
}

static inline uint64_t crocksdb_big_endian(uint64_t value) { return __builtin_bswap64(value); }

/// A row of eight bytes under a key of eight bytes, both big-endian.
static inline void crocksdb_batch_put_word(
    rocksdb_writebatch_t *batch, rocksdb_column_family_handle_t *family, uint64_t key, uint64_t value) {
  uint64_t key_bytes = crocksdb_big_endian(key);
  uint64_t value_bytes = crocksdb_big_endian(value);
  rocksdb_writebatch_put_cf(batch, family, (const char *)&key_bytes, 8, (const char *)&value_bytes, 8);
}

static inline void crocksdb_batch_delete_words(
    rocksdb_writebatch_t *batch, rocksdb_column_family_handle_t *family, uint64_t from, uint64_t to) {
  uint64_t from_bytes = crocksdb_big_endian(from);
  uint64_t to_bytes = crocksdb_big_endian(to);
  rocksdb_writebatch_delete_range_cf(batch, family, (const char *)&from_bytes, 8, (const char *)&to_bytes, 8);
}

static inline rocksdb_pinnableslice_t *crocksdb_get(
    rocksdb_t *db, const rocksdb_readoptions_t *options, const uint8_t *key, size_t key_count, char **error) {
  return rocksdb_get_pinned(db, options, (const char *)key, key_count, error);
}

static inline const uint8_t *crocksdb_slice_bytes(const rocksdb_pinnableslice_t *slice, size_t *count) {
  return (const uint8_t *)rocksdb_pinnableslice_value(slice, count);
}

/// The bytes stay where they are until the options are destroyed: RocksDB keeps the pointer.
static inline void crocksdb_set_upper_bound(rocksdb_readoptions_t *options, const uint8_t *bytes, size_t count) {
  rocksdb_readoptions_set_iterate_upper_bound(options, (const char *)bytes, count);
}

static inline void crocksdb_seek(rocksdb_iterator_t *iterator, const uint8_t *key, size_t count) {
  rocksdb_iter_seek(iterator, (const char *)key, count);
}

static inline const uint8_t *crocksdb_key(const rocksdb_iterator_t *iterator, size_t *count) {
  return (const uint8_t *)rocksdb_iter_key(iterator, count);
}

static inline const uint8_t *crocksdb_value(const rocksdb_iterator_t *iterator, size_t *count) {
  return (const uint8_t *)rocksdb_iter_value(iterator, count);
}

static inline uint64_t crocksdb_approximate_size(
    rocksdb_t *db, const uint8_t *from, size_t from_count, const uint8_t *to, size_t to_count, char **error) {
  const char *froms[1] = {(const char *)from};
  const char *tos[1] = {(const char *)to};
  uint64_t size = 0;
  rocksdb_approximate_sizes(db, 1, froms, &from_count, tos, &to_count, &size, error);
  return size;
}

/// Opens the default column family and one more beside it.
static inline rocksdb_t *crocksdb_open_two(
    const rocksdb_options_t *options, const char *path, const char *second, rocksdb_column_family_handle_t **first_family,
    rocksdb_column_family_handle_t **second_family, char **error) {
  const char *names[2] = {"default", second};
  const rocksdb_options_t *both[2] = {options, options};
  rocksdb_column_family_handle_t *handles[2] = {0, 0};
  rocksdb_t *db = rocksdb_open_column_families(options, path, 2, names, both, handles, error);
  *first_family = handles[0];
  *second_family = handles[1];
  return db;
}

static inline void crocksdb_file_put(
    rocksdb_sstfilewriter_t *file, const uint8_t *key, size_t key_count, const uint8_t *value, size_t value_count,
    char **error) {
  rocksdb_sstfilewriter_put(file, (const char *)key, key_count, (const char *)value, value_count, error);
}

static inline void crocksdb_ingest_file(
    rocksdb_t *db, const char *path, const rocksdb_ingestexternalfileoptions_t *options, char **error) {
  const char *paths[1] = {path};
  rocksdb_ingest_external_file(db, paths, 1, options, error);
}

#endif
