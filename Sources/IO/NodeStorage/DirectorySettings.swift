internal import KeyValueStore

/// The bounds of a data directory.
package struct DirectorySettings: Sendable {
    /// Blocks of both stores that are kept in memory after reading.
    package var blockCacheBytes = 64 << 20
    /// Memory for log writes on their way to files: this many buffers of this size.
    package var logBufferBytes = 64 << 20
    package var logBuffersMax = 4
    /// Write-ahead logs on disk; what a start has to replay at most.
    package var writeAheadBytesMax = 512 << 20
    package var stateBufferBytes = 32 << 20
    package var stateBuffersMax = 3
    /// Space put by for configuration, cuts and flushes when the disk is full; at most a sixteenth of the file system.
    package var reserveBytes: UInt64 = 64 << 20
    package var space = SpaceThreshold()

    package init() {}

    func reserve(of space: DiskSpace) -> UInt64 { min(reserveBytes, space.totalBytes / 16) }

    func log(_ cache: BlockCache) -> StoreSettings {
        var settings = StoreSettings.log(cache)
        settings.writeBufferBytes = logBufferBytes
        settings.writeBuffersMax = logBuffersMax
        settings.writeAheadBytesMax = writeAheadBytesMax
        return settings
    }

    func state(_ cache: BlockCache) -> StoreSettings {
        var settings = StoreSettings.state(cache)
        settings.writeBufferBytes = stateBufferBytes
        settings.writeBuffersMax = stateBuffersMax
        return settings
    }
}
