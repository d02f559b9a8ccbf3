import Reactor

/// Calls that may wait for a storage that does not answer, each on a thread of its own, a bounded number at a time. Belongs to the
/// loop's thread; so do the answers.
final class BlockingWork {
    static let most = 16

    private var mailbox: Mailbox<(UInt64, String?)>?
    // hash order: looked up only
    private var waiting: [UInt64: (String?) -> Void] = [:]
    private var last: UInt64 = 0

    init(_ loop: EventLoop) {
        mailbox = loop.makeMailbox(of: (UInt64, String?).self, itemsMax: 1_024) { [unowned self] number, problem in
            waiting.removeValue(forKey: number)?(problem)
        }
    }

    /// Says what went wrong: in the work, or that it was not begun.
    func start(_ name: String, _ body: @escaping @Sendable () -> String?, done: @escaping (String?) -> Void) {
        guard let mailbox, waiting.count < BlockingWork.most else {
            return done("too much of this is under way; ask again")
        }
        last += 1
        let number = last
        waiting[number] = done
        do throws(SystemError) {
            _ = try WorkerThread(name) { _ = mailbox.post((number, body())) }
        } catch {
            waiting.removeValue(forKey: number)?("\(error)")
        }
    }
}
