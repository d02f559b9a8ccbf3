internal import CLinux
package import ClusterBase

/// Turns names into addresses on a thread of its own, since the system's resolver blocks. Addresses in digits come back
/// without that thread.
package final class Resolver {
    package enum Outcome: Sendable {
        /// In the order of preference, at least one.
        case found([SocketAddress])
        /// One sentence.
        case failed(String)
    }

    /// Questions under way; one more is refused.
    package static let questionsMax = 256
    /// Addresses of one name.
    package static let addressesMax = 16

    private struct Question: Sendable {
        var number: Int
        var address: Address
    }
    private struct Answer: Sendable {
        var number: Int
        var outcome: Outcome
    }

    private let questions = WorkQueue<Question>(itemsMax: Resolver.questionsMax)
    private let mailbox: Mailbox<Answer>
    private let asked: Asked
    private var number = 0
    private var thread: WorkerThread?

    private final class Asked {
        /// Few at a time.
        var open: [(number: Int, handler: (Outcome) -> Void)] = []
    }

    package init(_ loop: EventLoop) {
        let asked = Asked()
        self.asked = asked
        mailbox = loop.makeMailbox(itemsMax: Resolver.questionsMax) { (answer: Answer) in
            guard let i = asked.open.firstIndex(where: { $0.number == answer.number }) else { return }
            let handler = asked.open.remove(at: i).handler
            handler(answer.outcome)
        }
    }

    /// Answers on the loop's thread, in a later turn unless the address is in digits.
    package func resolve(_ address: Address, _ handler: @escaping (Outcome) -> Void) {
        if let known = address.resolved { return handler(.found([known])) }
        if thread == nil {
            do throws(SystemError) {
                thread = try WorkerThread("resolver") { [questions, mailbox] in
                    while let waiting = questions.takeAll() {
                        for question in waiting {
                            // The box holds an answer to every question that may be open, so it is never full.
                            _ = mailbox.post(Answer(number: question.number, outcome: Resolver.ask(question.address)))
                        }
                    }
                }
            } catch {
                return handler(.failed(error.description))
            }
        }
        number += 1
        guard asked.open.count < Resolver.questionsMax, questions.put(Question(number: number, address: address)) else {
            return handler(.failed("too many names are being resolved; use addresses in digits"))
        }
        asked.open.append((number, handler))
    }

    /// Answers nothing more. The thread ends by itself when the system lets it go.
    package func close() {
        questions.close()
        asked.open.removeAll()
        thread = nil
    }

    private static func ask(_ address: Address) -> Outcome {
        var found = [clinux_address](repeating: clinux_address(), count: addressesMax)
        let count = clinux_resolve(address.host, address.port, &found, Int32(addressesMax))
        if count > 0 { return .found(found.prefix(Int(count)).map { SocketAddress($0) }) }
        let reason = count == 0 ? "it has no address" : String(cString: clinux_resolve_text(count))
        return .failed("the name \(address.host) could not be resolved: \(reason); correct it, or use its address")
    }
}

extension Resolver {
    /// Waits for it, with the loop's turns: for a command line. A failure is one sentence.
    package func places(of address: Address, within time: Nanoseconds, on loop: EventLoop) -> Outcome {
        var outcome: Outcome?
        resolve(address) { outcome = $0 }
        _ = loop.run(atMost: time) { outcome != nil }
        return outcome ?? .failed("The name \(address.host) could not be looked up in time.")
    }
}
