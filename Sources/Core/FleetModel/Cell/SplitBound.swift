/// What a cell outgrows, beyond so many hosts or VMs; or what it has become too small for, with fewer.
package struct SplitBound: Hashable, Sendable {
    package enum Kind: UInt64, Hashable, Sendable, CaseIterable { case hosts = 1, vms }

    package var kind: Kind
    package var count: UInt64
    package init(_ kind: Kind, _ count: UInt64) {
        self.kind = kind
        self.count = count
    }

    /// Of the setting's values.
    static let valueMax = SplitBound(.vms, CellLimits.vmsMax).value

    /// Nil for 0, which is off, and for what no setting has.
    package init?(value: UInt64) {
        guard let kind = Kind(rawValue: value >> 32) else { return nil }
        let count = value & 0xFFFF_FFFF
        let most = kind == .hosts ? CellLimits.hostsMax : CellLimits.vmsMax
        guard (1...most).contains(count) else { return nil }
        self.init(kind, count)
    }
    package var value: UInt64 { kind.rawValue << 32 | count }

    /// A cell that is split has at least so many times what one has that is merged: whatever it is divided into, nothing goes back and
    /// forth.
    package static let apart: UInt64 = 4

    /// Whether cells with these settings, 0 for none, are split and merged so far apart, and by the same count.
    package static func mayStand(above: UInt64, below: UInt64) -> Bool {
        guard let above = SplitBound(value: above), let below = SplitBound(value: below) else { return true }
        return above.kind == below.kind && below.count <= above.count / apart
    }

    package var text: String { "\(kind):\(count)" }

    /// What the setting holds for `off`, `hosts:500`, `vms:100000`; nil for anything else.
    package static func value(_ text: String) -> UInt64? {
        if text == "off" { return 0 }
        for kind in Kind.allCases where text.hasPrefix("\(kind):") {
            guard let count = UInt32(text.dropFirst("\(kind):".count)) else { return nil }
            let bound = SplitBound(value: SplitBound(kind, UInt64(count)).value)
            return bound?.text == text ? bound?.value : nil
        }
        return nil
    }
    package static func text(_ value: UInt64) -> String { SplitBound(value: value)?.text ?? "off" }
}
