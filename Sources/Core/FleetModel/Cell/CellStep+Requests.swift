import ClusterBase

// Commands that come again. Those of a process's session have their result kept until they are settled; those under an id
// of somebody's own for a day, or until the tenant has so many later ones that the oldest has to go.

extension CellStep {
    /// Carries out a command, or finds what came of it before.
    mutating func apply(_ command: CellCommand) throws(StoreError) -> CellResult {
        by = command.by
        request = command.request ?? []
        imagesAt = command.imagesAt
        isBounded = command.isBounded
        generation = command.generation
        isAudit = command.operation.isAsked
        if !CellCheck.isText(command.by) {
            return refused(.invalid(field: "by", "at most \(CellLimits.textBytesMax) bytes and no control characters"))
        }
        if let request = command.request, request.count != CellLimits.requestBytes {
            return refused(.invalid(field: "request", "a request id has \(CellLimits.requestBytes) bytes"))
        }
        if let origin = command.origin { return try apply(command, of: origin) }
        guard let request = command.request else { return try execute(command.operation) }
        try dropOldRequests()
        let digest = self.digest(of: command)
        if let known = try known(command, request, digest) { return known }
        let tenant = try self.tenant(of: command.operation)
        let isFull =
            (tenant.isEmpty ? summary.cellRequests : try slice(tenant).requestCount) >= CellLimits.requestsPerTenantMax
        let isCellFull = summary.requests >= CellLimits.requestsMax
        let dropsOldest = level >= FeatureLevel.sessions
        if isFull || isCellFull {
            if !dropsOldest { return refused(.tooMany(.requests)) }
            try dropOldest(of: isFull ? tenant : nil)
        }
        let result = try execute(command.operation)
        // Nothing came of it, and something may when the tenant is set: then it is asked again under the same id.
        if result.isForUnknownTenant { return result }
        try countRequest(tenant, 1)
        access.put(CellKey.request(request), KeptCellRequest(digest: digest, result: result).encoded())
        if dropsOldest {
            access.put(CellKey.requestTime(time, request), Array(tenant.utf8) + [0])
            access.put(CellKey.requestOrder(tenant, time, request), [])
        } else {
            access.put(CellKey.requestTime(time, request), Array(tenant.utf8))
        }
        return result
    }

    /// A request id beside an origin is for names that are held for it: under an id that was used up nothing is made.
    private mutating func apply(_ command: CellCommand, of origin: CommandOrigin) throws(StoreError) -> CellResult {
        switch try sessions.admit(origin, time, &access) {
        case .known(let bytes):
            guard let result = CellResult.decode(bytes) else {
                throw StoreError(.corrupt, "the kept result of command \(origin.sequence) of a session can't be read")
            }
            if !mutated(.repetitionTakesEffect) { return result }
        case .unknown(let born): return refused(.sessionUnknown(bornAtLeast: born))
        case .settled:
            if !mutated(.repetitionTakesEffect) { return refused(.commandSettled) }
        case .malformed:
            return refused(.invalid(field: "origin", "count commands from 1, above those that are settled"))
        case .new: break
        }
        var result: CellResult?
        if let request = command.request { result = try known(command, request, digest(of: command)) }
        let done = if let result { result } else { try execute(command.operation) }
        if !mutated(.sessionForgets) { try sessions.keep(done.encoded(), of: origin, time, &access) }
        return done
    }

    private func digest(of command: CellCommand) -> UInt64 {
        level >= FeatureLevel.placelessRequests ? command.digest : RequestDigest.of(command.unnamed.encoded())
    }

    private func known(
        _ command: CellCommand, _ request: [UInt8], _ digest: UInt64
    ) throws(StoreError) -> CellResult? {
        guard let kept = try access.record(KeptCellRequest.self, CellKey.request(request)),
            !mutated(.repetitionTakesEffect)
        else { return nil }
        return kept.isOf(command) || kept.digest == digest ? kept.result : refused(.requestReused)
    }

    private func refused(_ refusal: CellRefusal) -> CellResult {
        CellResult(revision: revision, outcome: .refused(refusal))
    }

    /// Empty for a command that is the cell's own, or of a tenant that is not known here.
    private mutating func tenant(of operation: CellCommand.Operation) throws(StoreError) -> String {
        let name: String
        switch operation {
        case .createVMs(let items, _): name = items.first?.tenant ?? ""
        case .updateVM(let vm, _, _), .setPower(let vm, _, _), .restartVM(let vm), .deleteVM(let vm, _),
            .moveVM(let vm, _, _, _, _, _, _):
            name = try self.vm(vm)?.tenant ?? ""
        case .putGroup(let group): name = group.tenant
        case .deleteGroup(let tenant, _): name = tenant
        default: name = ""
        }
        if !CellCheck.isName(name) { return "" }
        _ = try slice(name)
        return slices[name]?.record != nil || summary.tenants < CellLimits.tenantsMax ? name : ""
    }

    private mutating func countRequest(_ tenant: String, _ sign: Int) throws(StoreError) {
        if sign > 0 { summary.requests += 1 } else { summary.requests -= 1 }
        if tenant.isEmpty {
            if sign > 0 { summary.cellRequests += 1 } else { summary.cellRequests -= 1 }
        } else {
            var slice = try slice(tenant)
            if sign > 0 { slice.requestCount += 1 } else { slice.requestCount -= 1 }
            put(slice)
        }
    }

    mutating func dropOldRequests() throws(StoreError) {
        guard summary.requests > 0, time.rawValue > CellLimits.requestLifetime else { return }
        let end = LogTime(time.rawValue - CellLimits.requestLifetime)
        var old: [(key: [UInt8], tenant: [UInt8])] = []
        let range = KeyRange(from: [CellKey.Kind.requestTime], to: CellKey.requestTime(end, []))
        try access.scan(range) { key, tenant in
            old.append((key, tenant))
            return old.count < CellLimits.requestsDroppedMax
        }
        for (key, tenant) in old { try drop(key, tenant) }
    }

    /// Makes room for another result of the tenant, or of anybody.
    private mutating func dropOldest(of tenant: String?) throws(StoreError) {
        // What was kept before feature level 3 is older than all the rest, and has no place in its tenant's order.
        var before: [(key: [UInt8], tenant: [UInt8])] = []
        var oldest: (key: [UInt8], tenant: [UInt8])?
        let wanted = tenant.map { Array($0.utf8) }
        try access.scan(.prefix([CellKey.Kind.requestTime])) { key, value in
            if oldest == nil { oldest = (key, value) }
            guard let wanted, value.last != 0 else { return false }
            before.append((key, value))
            return value != wanted && before.count < CellLimits.requestsSoughtMax
        }
        guard var gone = oldest else {
            throw StoreError(.corrupt, "\(summary.requests) kept results are counted, and there is none")
        }
        if let wanted {
            if let last = before.last, last.tenant == wanted {
                gone = last
            } else {
                try access.scan(.prefix(CellKey.requestOrders(wanted))) { key, _ in
                    gone = ([CellKey.Kind.requestTime] + key.suffix(8 + CellLimits.requestBytes), wanted + [0])
                    return false
                }
            }
        }
        try drop(gone.key, gone.tenant)
    }

    /// Drops one kept result by its row in the order of time, which says of which tenant it is.
    private mutating func drop(_ key: [UInt8], _ value: [UInt8]) throws(StoreError) {
        access.delete(key)
        let request = Array(key.dropFirst(9))
        access.delete(CellKey.request(request))
        var name = value
        if name.last == 0 {
            name.removeLast()
            guard let at = key.bigEndian64(at: 1) else { throw CellKey.corrupt(key) }
            access.delete(CellKey.requestOrder(String(decoding: name, as: UTF8.self), LogTime(at), request))
        }
        try countRequest(String(decoding: name, as: UTF8.self), -1)
    }
}

extension CellCommand {
    /// The same for a command that comes again, from another place too. Where somebody asks for a move, the leader chooses the
    /// host and, where nothing is said, the intent, and may choose others the next time.
    fileprivate var digest: UInt64 {
        var unnamed = unnamed
        unnamed.by = RequestDigest.withoutPlace(unnamed.by)
        if case .beginMigration(let vm, _, _, .asked, _) = operation {
            unnamed.operation = .beginMigration(vm, from: 0, to: Assignment(host: HostID(0)), cause: .asked)
        }
        return RequestDigest.of(unnamed.encoded())
    }
}

extension KeptCellRequest {
    /// The other one may have been kept at a lower level.
    func isOf(_ command: CellCommand) -> Bool {
        digest == command.digest || digest == RequestDigest.of(command.unnamed.encoded())
    }
}

extension Cell {
    /// One row with the result that is kept of a command, under its request id; none where none is.
    static func repetition(
        of bytes: [UInt8], _ access: some OrderedReader
    ) throws(StoreError) -> CellAnswer.Body {
        let command: CellCommand
        switch CellCommand.decode(bytes) {
        case .failure(let refusal): return .refused(refusal)
        case .success(let decoded): command = decoded
        }
        guard let request = command.request, request.count == CellLimits.requestBytes else {
            return .refused(.invalid(field: "request", "a request id has \(CellLimits.requestBytes) bytes"))
        }
        guard let kept = try access.record(KeptCellRequest.self, CellKey.request(request)) else {
            return .rows([], resumeAfter: nil)
        }
        if !kept.isOf(command) { return .refused(.requestReused) }
        return .rows([CellRow(key: CellKey.request(request), value: kept.result.encoded())], resumeAfter: nil)
    }
}
