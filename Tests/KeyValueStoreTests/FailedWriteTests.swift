import ClusterBase
import Glibc
import KeyValueStore
import NodePorts
import StoreFolder
import Testing

@Suite struct FailedWriteTests {
    /// In a process of its own: the limit on file sizes is the process's.
    @Test func `after a write that failed no other is taken, and what was acknowledged is there at the next start`()
        async
    {
        await #expect(processExitsWith: .success) {
            signal(SIGXFSZ, SIG_IGN)
            let folder = Folder()
            let path = folder.path + "/store"
            var acknowledged: UInt8 = 0
            var failure: StoreError?
            do {
                let store = try RocksStore(path, smallSettings(.log))
                var limit = rlimit(rlim_cur: 100_000, rlim_max: .max)
                setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
                while failure == nil && acknowledged < 200 {
                    do {
                        var batch = batch(acknowledged)
                        batch.put([acknowledged, 1], [UInt8](repeating: acknowledged, count: 3_000))
                        try store.write(batch, isSynced: true)
                        acknowledged += 1
                    } catch let error as StoreError {
                        failure = error
                    }
                }
                limit.rlim_cur = .max
                setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
                precondition(failure?.code == .writeFailed, "\(String(describing: failure))")
                precondition(acknowledged > 10 && acknowledged < 50, "\(acknowledged)")
                // There would be room again; the store does not trust itself any more.
                for isSynced in [true, false] {
                    do {
                        try store.write(batch(255), isSynced: isSynced)
                        preconditionFailure("a write after a failed one was taken")
                    } catch {
                        precondition((error as? StoreError) == failure, "\(error)")
                    }
                }
            }
            let store = try RocksStore(path, smallSettings(.log))
            for key in 0..<acknowledged {
                let (short, long) = (try store.value(for: [key]), try store.value(for: [key, 1]))
                precondition(short == [1] && long?.count == 3_000, "\(key)")
            }
            let unwanted = try store.value(for: [255])
            precondition(unwanted == nil, "an unacknowledged write is there")
        }
    }
}
