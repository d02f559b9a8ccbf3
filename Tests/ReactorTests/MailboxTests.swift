import ClusterBase
import Reactor
import Testing

@Suite struct MailboxTests {
    @Test func `items of four threads all arrive, each thread's in its order`() throws {
        let loop = try EventLoop()
        let perThread = 10_000
        var seen = [[Int]](repeating: [], count: 4)
        let mailbox = loop.makeMailbox(of: (Int, Int).self, itemsMax: 1_000) { seen[$0.0].append($0.1) }
        var threads: [WorkerThread] = []
        for thread in 0..<4 {
            threads.append(
                try WorkerThread("poster \(thread)") {
                    for item in 0..<perThread { while !mailbox.post((thread, item)) {} }
                })
        }
        let isDone = loop.run(atMost: .seconds(30)) { seen.allSatisfy { $0.count == perThread } }
        for thread in threads { thread.join() }
        #expect(isDone)
        for items in seen { #expect(items == Array(0..<perThread)) }
    }

    @Test func `a loop that waits is woken by mail`() throws {
        let loop = try EventLoop()
        var isThere = false
        let mailbox = loop.makeMailbox(of: Int.self, itemsMax: 1) { _ in isThere = true }
        let thread = try WorkerThread("poster") {
            let end = SystemClock.now + .milliseconds(20)
            while SystemClock.now < end {}
            #expect(mailbox.post(1))
        }
        let start = SystemClock.now
        let isDone = loop.run(atMost: .seconds(20)) { isThere }
        thread.join()
        #expect(isDone)
        #expect(SystemClock.now - start < .seconds(10))
    }

    @Test func `a full mailbox refuses, and so does a closed one`() throws {
        let loop = try EventLoop()
        var seen: [Int] = []
        let mailbox = loop.makeMailbox(of: Int.self, itemsMax: 2) { seen.append($0) }
        #expect(mailbox.post(1))
        #expect(mailbox.post(2))
        #expect(!mailbox.post(3))
        loop.turn(waitingAtMost: .zero)
        #expect(seen == [1, 2])
        #expect(mailbox.post(4))
        mailbox.close()
        #expect(!mailbox.post(5))
        loop.turn(waitingAtMost: .zero)
        #expect(seen == [1, 2, 4])
    }

    @Test func `a worker takes everything that waits at once, and ends when the queue is closed`() throws {
        let queue = WorkQueue<Int>(itemsMax: 3)
        #expect(queue.put(1))
        #expect(queue.put(2))
        #expect(queue.put(3))
        #expect(!queue.put(4))
        let batches = Guarded<[[Int]]>([])
        let thread = try WorkerThread("worker") {
            while let items = queue.takeAll() { batches.withLock { $0.append(items) } }
        }
        while batches.withLock({ $0.isEmpty }) {}
        #expect(queue.put(5))
        queue.close()
        #expect(!queue.put(6))
        thread.join()
        #expect(batches.withLock { $0 } == [[1, 2, 3], [5]])
    }
}
