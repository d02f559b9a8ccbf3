internal import Glibc

/// The space of the file system that a directory is on.
package struct DiskSpace: Hashable, Sendable {
    package var freeBytes: UInt64
    package var totalBytes: UInt64

    package init(freeBytes: UInt64, totalBytes: UInt64) {
        self.freeBytes = freeBytes
        self.totalBytes = totalBytes
    }

    /// Nil when the file system can't be asked.
    package init?(at path: String) {
        var found = statvfs()
        if statvfs(path, &found) != 0 { return nil }
        let unit = UInt64(found.f_frsize)
        self.init(freeBytes: UInt64(found.f_bavail) * unit, totalBytes: UInt64(found.f_blocks) * unit)
    }
}

/// When a file system counts as low: clients' proposals stop then, and go on by themselves later.
package struct SpaceThreshold: Hashable, Sendable {
    /// Low below this share of the file system, in thousandths, or below `freeBytesMin`, whichever is less.
    package var permille: UInt64
    package var freeBytesMin: UInt64

    package init(permille: UInt64 = 50, freeBytesMin: UInt64 = 1 << 30) {
        self.permille = permille
        self.freeBytesMin = freeBytesMin
    }

    package func lowBelow(_ space: DiskSpace) -> UInt64 { min(space.totalBytes / 1_000 * permille, freeBytesMin) }

    /// A quarter more than what is low has to be free again, so that it does not flicker.
    package func clearFrom(_ space: DiskSpace) -> UInt64 { lowBelow(space) / 4 * 5 }
}
