import AdminAPI
import FleetModel
import TLSSession

/// A forced recovery that was done here and that the root has not noted yet.
struct RecoveryOwed {
    let record: RecoveryRecord
    let by: String
    /// So that it is noted once.
    let request: [UInt8]
}

extension Agent {
    /// On the day of a recovery the root may have no quorum either: the record waits here until it has. It is in the log of
    /// this node in any case.
    func record(_ record: RecoveryRecord, by: String) {
        recoveriesOwed.append(
            RecoveryOwed(record: record, by: by, request: Crypto.randomBytes(RootLimits.requestBytes)))
        tendRecoveries()
    }

    func tendRecoveries() {
        guard !isNotingRecovery, let owed = recoveriesOwed.first else { return }
        isNotingRecovery = true
        change(.recordRecovery(owed.record), request: owed.request, by: owed.by) { [self] result in
            isNotingRecovery = false
            if case .failure(let problem) = result {
                if problem.kind.mayPass { return }
                log.error("the root does not note that group \(owed.record.group) was recovered: \(problem.detail)")
            }
            recoveriesOwed.removeFirst()
        }
    }
}
