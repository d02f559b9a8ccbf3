import ClusterBase

// Commands that come again. Those of a process's session have their result kept until they are settled; those under an id
// of somebody's own for a day, or until there are so many later ones that the oldest has to go.

extension RootStep {
    /// Carries out a command, or finds what came of it before.
    mutating func apply(_ command: RootCommand) throws(StoreError) -> RootResult {
        by = command.by
        if !RootCheck.isText(command.by) { return refused(.invalid(.by)) }
        if let request = command.request, request.count != RootLimits.requestBytes {
            return refused(.invalid(.request))
        }
        if let origin = command.origin { return try apply(command, of: origin) }
        guard let request = command.request else { return try done(command) }
        try dropOldRequests()
        let digest = self.digest(of: command)
        if let known = try known(command, request, digest) { return known }
        if summary.requests >= RootLimits.requestsMax {
            if level < FeatureLevel.sessions { return refused(.tooMany(.requests)) }
            try dropRequests(through: LogTime(.max), most: 1)
        }
        let result = try done(command)
        access.put(RootKey.request(request), KeptRequest(digest: digest, at: time, result: result).encoded())
        access.put(RootKey.requestTime(time, request), [])
        summary.requests += 1
        return result
    }

    private mutating func apply(_ command: RootCommand, of origin: CommandOrigin) throws(StoreError) -> RootResult {
        switch try sessions.admit(origin, time, &access) {
        case .known(let bytes):
            guard let result = RootResult.decode(bytes) else {
                throw StoreError(.corrupt, "the kept result of command \(origin.sequence) of a session can't be read")
            }
            return result
        case .unknown(let born): return refused(.sessionUnknown(bornAtLeast: born))
        case .settled: return refused(.commandSettled)
        case .malformed: return refused(.invalid(.origin))
        case .new: break
        }
        var result: RootResult?
        if let request = command.request { result = try known(command, request, digest(of: command)) }
        let done = if let result { result } else { try self.done(command) }
        try sessions.keep(done.encoded(), of: origin, time, &access)
        return done
    }

    private mutating func done(_ command: RootCommand) throws(StoreError) -> RootResult {
        RootResult(revision: revision, outcome: try noted(command.operation))
    }

    private func refused(_ refusal: RootRefusal) -> RootResult {
        RootResult(revision: revision, outcome: .refused(refusal))
    }

    private func digest(of command: RootCommand) -> UInt64 {
        var unnamed = command.unnamed
        if level >= FeatureLevel.placelessRequests { unnamed.by = RequestDigest.withoutPlace(unnamed.by) }
        return RequestDigest.of(unnamed.encoded())
    }

    private func known(
        _ command: RootCommand, _ request: [UInt8], _ digest: UInt64
    ) throws(StoreError) -> RootResult? {
        guard let kept = try access.record(KeptRequest.self, RootKey.request(request)) else { return nil }
        // The other one may have been kept at a lower level.
        let isSame = kept.digest == digest || kept.digest == RequestDigest.of(command.unnamed.encoded())
        return isSame ? kept.result : refused(.requestReused)
    }

    private mutating func dropOldRequests() throws(StoreError) {
        guard time.rawValue > RootLimits.requestLifetime else { return }
        try dropRequests(
            through: LogTime(time.rawValue - RootLimits.requestLifetime), most: RootLimits.requestsDroppedMax)
    }

    /// Drops the oldest kept results, of those before `end`.
    private mutating func dropRequests(through end: LogTime, most: Int) throws(StoreError) {
        if summary.requests == 0 { return }
        var old: [[UInt8]] = []
        let range = KeyRange(from: [RootKey.Kind.requestTime], to: RootKey.requestTime(end, []))
        try access.scan(range) { key, _ in
            old.append(key)
            return old.count < most
        }
        for key in old {
            access.delete(key)
            access.delete(RootKey.request(Array(key.dropFirst(9))))
            summary.requests -= 1
        }
    }
}
