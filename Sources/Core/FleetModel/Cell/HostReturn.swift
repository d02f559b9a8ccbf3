internal import ClusterBase
internal import Schema

/// What becomes of VMs that left a host by a drain when it is in service again.
package enum HostReturn: Int32, Hashable, Sendable, CaseIterable {
    /// They stay where they are, and nothing of it is remembered.
    case none = 0
    /// Nothing moves for it; but when one of them is placed anew or moved anyway, it takes this host first.
    case lazy
    /// They are moved back, as fast as the budgets of moves allow.
    case all
}

extension CellVM {
    /// Where it was before a drain. It counts as long as that host is in the cell and its row names the same drain.
    package struct Origin: Hashable, Sendable {
        package var host: HostID
        /// `CellHost.drain`.
        package var drain: UInt64
        package init(host: HostID, drain: UInt64) {
            self.host = host
            self.drain = drain
        }
    }

    /// The host that it is to come back to: not for one that is being deleted or moved to another cell, or that has been stopped for
    /// long.
    package func comesBack(to host: CellHost, at time: LogTime) -> Bool {
        guard let origin, origin.host == host.id, host.isOrigin(origin), !isDeleting, !isBetweenCells else {
            return false
        }
        return !isStoppedLong(at: time)
    }

    func isStoppedLong(at time: LogTime) -> Bool {
        power == .stopped && phase == .stopped && time > since.advanced(by: CellLimits.originStopped)
    }
}

extension CellHost {
    /// It counts.
    package func isOrigin(_ origin: CellVM.Origin) -> Bool { drain > 0 && drain == origin.drain && health != .removed }

    /// What left it by drains stays where it is.
    mutating func forgetAway() {
        drain = 0
        returns = .none
        isReturnPaused = false
        awayCount = 0
    }

    /// `3 VMs that left it come back`; empty where none has left.
    package var returnText: String {
        if awayCount == 0 { return "" }
        let what = awayCount == 1 ? "1 VM that left it" : "\(awayCount) VMs that left it"
        let isOne = awayCount == 1
        return switch returns {
        case .none: "\(what) \(isOne ? "stays where it is" : "stay where they are")"
        case .lazy: "\(what) \(isOne ? "takes" : "take") it first when placed anew or moved anyway"
        case .all: "\(what) \(isOne ? "comes" : "come") back"
        }
    }
}

extension CellVM.Origin {
    init(_ wire: WireVmOrigin) { self.init(host: HostID(wire.host), drain: wire.drain) }
    var wire: WireVmOrigin { WireVmOrigin(host: host.rawValue, drain: drain) }
}
