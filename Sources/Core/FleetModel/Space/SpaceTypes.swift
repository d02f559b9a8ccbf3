package import ClusterBase

/// A point in a space's history: the log index of a change and its slot in that entry's pack.
///
/// The slot is part of it so that no two changes share a revision: two writers of one key whose commands lie in one
/// entry must not both believe that the key still holds what they wrote.
package struct Revision: Identity {
    package let rawValue: UInt64
    @inlinable package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// `index` is below 2^56, `slot` below 256.
    @inlinable package init(index: LogIndex, slot: Int) {
        precondition(
            index.rawValue >> 56 == 0 && slot >= 0 && slot < 256, "slot \(slot) of entry \(index) has no revision")
        self.init(rawValue: index.rawValue << 8 | UInt64(slot))
    }

    package static let zero = Revision(rawValue: 0)

    /// The last revision that the entry at `index` can give out.
    @inlinable package static func end(of index: LogIndex) -> Revision { Revision(index: index, slot: 255) }

    @inlinable package var index: LogIndex { LogIndex(rawValue >> 8) }
    @inlinable package var slot: Int { Int(rawValue & 0xFF) }
    package var description: String { "\(index).\(slot)" }
}

/// The bounds of a space, all of them part of its replicated behaviour: changing one needs a new feature level.
package enum SpaceLimits {
    package static let keyBytesMax = 1_024
    package static let valueBytesMax = 1 << 20
    /// A pack of several commands; one command alone may fill as much as its key and value allow.
    package static let packBytesMax = 64 << 10
    package static let packCommandsMax = 256
    /// A command's key, two values (a compare-and-set on a value), and what surrounds them.
    package static let commandBytesMax = keyBytesMax + 2 * valueBytesMax + 128
    package static let sessionsMax = 4_096
    /// Results kept for a client, and so how many commands it may have under way at once.
    package static let sessionWindow = 32
    package static let historyChangesMax = 10_000
    package static let historyBytesMax = 64 << 20
    /// Records or changes in one answer.
    package static let answerCountMax = 1_000
    /// Bytes in one answer, which always holds at least one record if there is any.
    package static let answerBytesMax = 1 << 20
    /// Bytes of history that one query looks through before it answers with what it has.
    package static let watchScanBytesMax = 4 << 20
    package static let locksMax = 10_000
    package static let lockNameBytesMax = 256
    package static let lockOwnerBytesMax = 256
    package static let lockLease: ClosedRange<Nanoseconds> = .seconds(1)...(.seconds(3_600))
}

/// One change that a client asks for.
package struct SpaceCommand: Hashable, Sendable {
    package enum Operation: Hashable, Sendable {
        case put(key: [UInt8], value: [UInt8])
        case compareAndSet(key: [UInt8], expected: Expectation, value: [UInt8])
        /// With a revision: only if that is the key's last change.
        case delete(key: [UInt8], revision: Revision?)
        /// Only if the key holds this value. Wants feature level `FeatureLevel.conditionalDeletes`.
        case compareAndDelete(key: [UInt8], expected: [UInt8])
        /// Everything after it is refused, and so are reads: of a space that is deleted nothing is acknowledged any more, though
        /// nodes hear of that one after the other. Wants feature level `FeatureLevel.spaceEnds`.
        case end
        /// Takes a lock that is free, or renews the owner's own. This and the next two want `FeatureLevel.locks`.
        case acquire(lock: String, owner: String, lease: Nanoseconds)
        /// With a token: only the holding under it, so that a release which comes late frees no later one.
        case release(lock: String, owner: String, token: Revision? = nil)
        /// Frees a lock that nobody has renewed since.
        case expire(lock: String, renewed: Revision)
    }

    /// What a key must hold for a compare-and-set to take effect.
    package enum Expectation: Hashable, Sendable {
        case absent
        case revision(Revision)
        case value([UInt8])
    }

    /// The session that makes retries harmless; 0 for none, and then a retry takes effect again.
    package var client: ClientID
    /// From 1 on, one higher for every new command of the client; a retry repeats it. 0 without a session.
    package var sequence: UInt64
    /// The client has the results of all its commands up to this one, which is below `sequence`.
    package var acknowledged: UInt64
    /// A log index the client had heard of when it drew its id; the larger, the longer a first command can be told from
    /// the retry of one whose session has expired.
    package var born: LogIndex
    /// The lock that its sender must still hold. Wants `FeatureLevel.locks`.
    package var fence: SpaceFence?
    package var operation: Operation

    package init(
        client: ClientID = ClientID(0), sequence: UInt64 = 0, acknowledged: UInt64 = 0, born: LogIndex = .zero,
        fence: SpaceFence? = nil, _ operation: Operation
    ) {
        self.client = client
        self.sequence = sequence
        self.acknowledged = acknowledged
        self.born = born
        self.fence = fence
        self.operation = operation
    }
}

/// What became of one command.
package struct SpaceResult: Hashable, Sendable {
    package enum Outcome: Hashable, Sendable {
        /// The key now holds the value; it was written `version` times since it was created.
        case written(version: UInt64)
        case deleted
        /// There was nothing to delete. Nothing changed.
        case notFound
        /// The key does not hold what was expected: its last change is `modified`, or it is not there. Nothing changed.
        case conflict(modified: Revision?)
        /// The lock is held under this token.
        case held(token: Revision)
        /// The lock is held by another owner, under this token. Nothing changed.
        case taken(token: Revision)
        /// Nothing changed, and a retry of the same command is refused too.
        case refused(SpaceRefusal)
    }

    /// Where in the log the command took effect; a retry's answer tells the first time. After `written` and `deleted` it
    /// is the revision of the change.
    package var revision: Revision
    package var outcome: Outcome

    package init(revision: Revision, outcome: Outcome) {
        self.revision = revision
        self.outcome = outcome
    }
}

/// Why a command or a query was not carried out.
package enum SpaceRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    case malformed
    case unknownVersion(UInt64)
    case packTooLarge(UInt64)
    case keyEmpty
    case keyTooLong(UInt64)
    case valueTooLong(UInt64)
    /// A session without a sequence, a sequence without a session, or an acknowledgement of what is still to come.
    case sequenceInvalid
    /// The client has no session here and this is not surely its first command. The session may have expired, and the
    /// command may have taken effect before that.
    case sessionUnknown(bornAtLeast: LogIndex)
    /// The result is no longer kept: the client acknowledged it, or has gone on too far since.
    case sequenceTooOld(through: UInt64)
    /// The space is being deleted, or is gone.
    case ended
    /// A lock's name, owner or lease is not as it must be.
    case lockInvalid
    case tooManyLocks
    /// The command was to be under a lock that is held under another token, or by nobody.
    case lockLost(held: Revision?)

    package var description: String {
        switch self {
        case .malformed:
            "the bytes are no command; send one encoded as space.proto describes"
        case .unknownVersion(let version):
            "version \(version) of the command format is unknown here; send a version from \(FeatureLevel.oldest) to "
                + "\(FeatureLevel.newest)"
        case .packTooLarge(let count):
            "the pack is too large (\(count)); send at most \(SpaceLimits.packCommandsMax) commands and "
                + "\(SpaceLimits.packBytesMax) bytes together, or one command alone"
        case .keyEmpty:
            "the key is empty; name at least one byte"
        case .keyTooLong(let count):
            "the key has \(count) bytes; use at most \(SpaceLimits.keyBytesMax)"
        case .valueTooLong(let count):
            "the value has \(count) bytes; use at most \(SpaceLimits.valueBytesMax), or split it over several keys"
        case .sequenceInvalid:
            "client and sequence don't belong together; count a client's commands from 1, acknowledge only earlier ones, "
                + "or send neither"
        case .sessionUnknown(let born):
            "this client's session is unknown or has expired, and the command may have taken effect before that; read the "
                + "key to see, then go on under a new client id, with sequence 1 and born at least \(born)"
        case .sequenceTooOld(let through):
            "results up to sequence \(through) are no longer kept, and the command may have taken effect; read the key to "
                + "see, and keep at most \(SpaceLimits.sessionWindow) commands under way"
        case .lockInvalid:
            "a lock has a name of 1 to \(SpaceLimits.lockNameBytesMax) characters of ASCII without slashes and spaces, an owner of 1 to "
                + "\(SpaceLimits.lockOwnerBytesMax) printable ones, and a lease of 1 s to 1 h in whole milliseconds"
        case .tooManyLocks:
            "the space has \(SpaceLimits.locksMax) locks that are held, which is the bound; use another space"
        case .lockLost(let held?):
            "the lock is held under token \(held.rawValue) by now; whoever sent this lost it, and must take it again before it goes on"
        case .lockLost(nil):
            "the lock is held by nobody by now; whoever sent this lost it, and must take it again before it goes on"
        case .ended:
            "the space is being deleted; `muster space delete` brings that to its end"
        }
    }
}

/// A key as it stands.
package struct SpaceRecord: Hashable, Sendable {
    package var key: [UInt8]
    package var value: [UInt8]
    package var created: Revision
    package var modified: Revision
    /// How often it was written since it was created; 1 at creation.
    package var version: UInt64

    package init(key: [UInt8], value: [UInt8], created: Revision, modified: Revision, version: UInt64) {
        self.key = key
        self.value = value
        self.created = created
        self.modified = modified
        self.version = version
    }
}

/// A question about a space, answered from one state of it.
package enum SpaceQuery: Hashable, Sendable {
    case get(key: [UInt8])
    /// Keys with this prefix in byte order, after the key `after`. 0 or more than the bound means the bound.
    case list(prefix: [UInt8], after: [UInt8]?, limit: Int)
    /// Changes of keys with this prefix after the revision `since`.
    case changes(since: Revision, prefix: [UInt8], limit: Int)
    case lock(name: String)
    /// Locks that are held, in the order of their names.
    case locks(prefix: String, after: String?, limit: Int)
    /// Locks renewed after a revision, the oldest renewal first.
    case renewals(after: Revision, limit: Int)
}

/// The answer to a query, and the state that it comes from.
package struct SpaceAnswer: Hashable, Sendable {
    package enum Body: Hashable, Sendable {
        case record(SpaceRecord?)
        /// A page of a list; `resumeAfter` is set when there may be more.
        case page([SpaceRecord], resumeAfter: [UInt8]?)
        /// Complete up to `through`: the next query begins there. The watcher is up to date when it is the answer's
        /// revision.
        case changes([SpaceChange], through: Revision)
        /// Changes at or before this revision are gone: list again, then watch from the list's revision.
        case compacted(Revision)
        case locks([SpaceLock], resumeAfter: String?)
        case refused(SpaceRefusal)
    }

    /// The revision of the state that was read: every change up to here is in it, and none after.
    package var revision: Revision
    package var body: Body

    package init(revision: Revision, body: Body) {
        self.revision = revision
        self.body = body
    }
}

/// One change of one key, as a watcher sees it.
package enum SpaceChange: Hashable, Sendable {
    case written(SpaceRecord)
    case deleted(key: [UInt8], Revision)

    package var revision: Revision {
        switch self {
        case .written(let record): record.modified
        case .deleted(_, let revision): revision
        }
    }

    package var key: [UInt8] {
        switch self {
        case .written(let record): record.key
        case .deleted(let key, _): key
        }
    }
}

/// What a state machine may do to its state: read what it holds, its own changes included, and change it.
///
/// The first byte of every key is the machine's own kind byte, and not 0.
package protocol StateAccess: OrderedReader {
    #if MUTANTS
    var mutant: FleetMutant? { get }
    #endif
    mutating func put(_ key: [UInt8], _ value: consuming [UInt8])
    mutating func delete(_ key: [UInt8])
    mutating func delete(_ range: KeyRange)
}

#if MUTANTS
extension StateAccess {
    package var mutant: FleetMutant? { nil }
}
#endif
