package import ClusterBase
internal import Synchronization

/// Looks after an open data directory once a second: syncs the horizon, watches the space, keeps the reserve.
///
///     free ≥ clear ──▶ clear: reserve put by │ free < low ──▶ low: clients' proposals stop
///                                            │ free < half of low ──▶ the reserve is released
package final class DirectoryWatch: Sendable {
    package enum Notice: Hashable, Sendable {
        case spaceLow(DiskSpace)
        case spaceClear(DiskSpace)
        /// The horizon or the reserve could not be written, and the process must end.
        case failed(StoreError)
    }

    private static let intervalSeconds = 1
    private let isStopping: Shared
    private let thread: WorkThread

    private final class Shared: Sendable {
        let flag = Mutex(false)
        let work = Wakeup()
    }

    /// `onNotice` is called on the watch's thread, at each change, the first time at once when the space is low.
    package init(_ directory: NodeDirectory, onNotice: @escaping @Sendable (Notice) -> Void) {
        let shared = Shared()
        isStopping = shared
        thread = WorkThread("directory-watch") {
            var isLow = false
            while !shared.flag.withLock({ $0 }) {
                do throws(StoreError) {
                    try directory.horizon.sync()
                    try Self.watchSpace(directory, &isLow, onNotice)
                } catch {
                    return onNotice(.failed(error))
                }
                shared.work.wait(seconds: Self.intervalSeconds)
            }
        }
    }

    deinit { stop() }

    package func stop() {
        isStopping.flag.withLock { $0 = true }
        isStopping.work.signal()
        thread.join()
    }

    private static func watchSpace(
        _ directory: NodeDirectory, _ isLow: inout Bool, _ onNotice: (Notice) -> Void
    ) throws(StoreError) {
        guard let space = directory.space else { return }
        let threshold = directory.settings.space
        let low = threshold.lowBelow(space)
        if !isLow && space.freeBytes < low {
            isLow = true
            onNotice(.spaceLow(space))
        } else if isLow && space.freeBytes >= threshold.clearFrom(space) + directory.reserveOwed(space) {
            // What the reserve gave back is no room for clients: it is to be put by again first.
            isLow = false
            onNotice(.spaceClear(space))
        }
        if isLow {
            if space.freeBytes < low / 2 { try directory.releaseReserve() }
        } else {
            try directory.restoreReserve()
        }
    }
}
