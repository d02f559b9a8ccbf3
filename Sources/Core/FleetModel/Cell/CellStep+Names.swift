import ClusterBase
internal import Schema

// Names of VMs in a region that has several cells.

/// A name that one creation may use: in this cell, under this request id.
struct NameHold: CellMapped {
    var cell: UInt64
    var request: [UInt8]
    var at: LogTime

    init(cell: UInt64, request: [UInt8], at: LogTime) {
        self.cell = cell
        self.request = request
        self.at = at
    }

    init?(_ wire: WireNameHold) { self.init(cell: wire.cell, request: wire.request, at: LogTime(wire.at)) }
    var wire: WireNameHold { WireNameHold(cell: cell, request: request, at: at.rawValue) }
}

extension CellStep {
    /// One creation at a time has a name. Whoever wants it from another one makes sure first that this has come to nothing,
    /// and can't come to anything any more.
    mutating func holdName(
        _ tenant: String, _ name: String, _ hold: NameHold, replaces: [UInt8]
    ) throws(StoreError) -> CellResult.Outcome {
        if !CellCheck.isName(tenant) || !CellCheck.isName(name) {
            return .refused(.invalid(field: "name", "1 to \(CellLimits.nameBytesMax) plain letters"))
        }
        if hold.request.count != CellLimits.requestBytes {
            return .refused(.invalid(field: "request", "a request id has \(CellLimits.requestBytes) bytes"))
        }
        if summary.isClosed { return .refused(.cellClosed) }
        let key = CellKey.nameHold(tenant, name)
        if let known = try access.record(NameHold.self, key) {
            let isSame = known.request == hold.request && known.cell == hold.cell
            if !isSame && known.request != replaces {
                return .refused(.nameHeld(cell: known.cell, request: known.request))
            }
        } else {
            // Of before the region had several cells.
            if let own = try access.number(CellKey.vmName(tenant, name)),
                try access.value(for: CellTable.vms.key(own)) != nil
            {
                return .refused(.vmNameTaken(name))
            }
            if summary.names >= CellLimits.namesMax { return .refused(.tooMany(.names)) }
            summary.names += 1
        }
        access.put(key, hold.encoded())
        return .done
    }
}
