package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// open creates a topic and a producer.
func (s *stage) open(queues int) ([]*primitive.MessageQueue, rocketmq.Producer, error) {
	all, err := s.newTopic(s.own("topic"), queues)
	if err != nil {
		return nil, nil, err
	}
	p, err := s.newProducer()
	return all, p, err
}

func clustered(s *stage) error {
	queues, p, err := s.open(4)
	if err != nil {
		return err
	}
	defer p.Shutdown()
	if err := s.fill(p, queues, 0, 40); err != nil {
		return err
	}
	c, l, err := s.listen(s.own("group"), queues[0].Topic, "*")
	if err != nil {
		return err
	}
	defer c.Shutdown()
	if err := until("40 messages", func() bool { return l.size() >= 40 }); err != nil {
		return err
	}
	if err := s.fill(p, queues, 40, 20); err != nil {
		return err
	}
	if err := until("60 messages", func() bool { return l.size() >= 60 }); err != nil {
		return err
	}
	l.print(s, "consumer")
	return nil
}

// restart: each run begins where the one before stopped. A Go consumer that stops may take the very last commits with
// it, so that messages of the run before may come again, but nothing older.
func restart(s *stage) error {
	const perQueue = 5
	queues, p, err := s.open(2)
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for run := range 3 {
		if err := s.fill(p, queues, run*2*perQueue, 2*perQueue); err != nil {
			return err
		}
		c, l, err := s.listen(s.own("group"), queues[0].Topic, "*")
		if err != nil {
			return err
		}
		old := func(m *primitive.MessageExt) bool { return m.QueueOffset < int64(run*perQueue) }
		fresh := func() []*primitive.MessageExt {
			l.mutex.Lock()
			defer l.mutex.Unlock()
			return slices.DeleteFunc(slices.Clone(l.received), old)
		}
		if err := until("10 new messages", func() bool { return len(fresh()) >= 2*perQueue }); err != nil {
			return err
		}
		err = until("nothing to be behind", func() bool { return c.GetOffsetDiffMap()[queues[0].Topic] == 0 })
		if err != nil {
			return err
		}
		if err := c.Shutdown(); err != nil { // commits
			return err
		}
		printQueues(s, fmt.Sprintf("run %d", run), fresh())
		older := slices.ContainsFunc(l.received, func(m *primitive.MessageExt) bool { return m.QueueOffset < int64((run-1)*perQueue) })
		s.line("run %d: began before the run before: %t", run, older)
	}
	return nil
}

func broadcast(s *stage) error {
	queues, p, err := s.open(2)
	if err != nil {
		return err
	}
	defer p.Shutdown()
	if err := s.fill(p, queues, 0, 20); err != nil {
		return err
	}
	for i := range 2 {
		c, l, err := s.listen(s.own("group"), queues[0].Topic, "*", consumer.WithConsumerModel(consumer.BroadCasting))
		if err != nil {
			return err
		}
		defer c.Shutdown()
		if err := until("20 messages", func() bool { return l.size() >= 20 }); err != nil {
			return err
		}
		l.print(s, fmt.Sprintf("member %d", i))
	}
	return nil
}

func tags(s *stage) error {
	queues, p, err := s.open(2)
	if err != nil {
		return err
	}
	defer p.Shutdown()
	if err := s.fill(p, queues, 0, 30); err != nil {
		return err
	}
	c, l, err := s.listen(s.own("group"), queues[0].Topic, "tag0 || tag2")
	if err != nil {
		return err
	}
	defer c.Shutdown()
	if err := until("20 of 30 messages", func() bool { return l.size() >= 20 }); err != nil {
		return err
	}
	l.print(s, "tag0 and tag2")
	return nil
}

func ordered(s *stage) error {
	queues, p, err := s.open(2)
	if err != nil {
		return err
	}
	defer p.Shutdown()
	if err := s.fill(p, queues, 0, 30); err != nil {
		return err
	}
	c, err := s.newPushConsumer(s.own("group"), consumer.WithConsumerOrder(true))
	if err != nil {
		return err
	}
	l := &listener{}
	if err := c.Subscribe(queues[0].Topic, consumer.MessageSelector{}, l.take); err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	defer c.Shutdown()
	if err := until("30 messages", func() bool { return l.size() >= 30 }); err != nil {
		return err
	}
	arrived := map[int][]int64{}
	for _, m := range l.received {
		arrived[m.Queue.QueueId] = append(arrived[m.Queue.QueueId], m.QueueOffset)
	}
	for _, queue := range slices.Sorted(maps.Keys(arrived)) {
		s.line("queue %d in order of arrival: %v", queue, arrived[queue])
	}
	return nil
}

// share: two members take half of the queues each; when one goes the other takes over.
func share(s *stage) error {
	queues, p, err := s.open(4)
	if err != nil {
		return err
	}
	defer p.Shutdown()
	topic := queues[0].Topic
	stays, one, err := s.listen(s.own("group"), topic, "*")
	if err != nil {
		return err
	}
	defer stays.Shutdown()
	goes, two, err := s.listen(s.own("group"), topic, "*")
	if err != nil {
		return err
	}
	// Shared once the newcomer gets half of each round: its members learn of each other by the broker's notice.
	sent := 0
	round := func() (int, int, error) {
		before := [2]int{one.size(), two.size()}
		if err := s.fill(p, queues, sent, 8); err != nil {
			return 0, 0, err
		}
		sent += 8
		distinct := func() int {
			seen := map[string]bool{}
			for _, l := range []*listener{one, two} {
				l.mutex.Lock()
				for _, m := range l.received {
					seen[string(m.Body)] = true
				}
				l.mutex.Unlock()
			}
			return len(seen)
		}
		err := until("a round of messages", func() bool { return distinct() >= sent })
		return one.size() - before[0], two.size() - before[1], err
	}
	err = until("both to have half", func() bool {
		a, b, e := round()
		err = e
		return e != nil || a == 4 && b == 4
	})
	if err != nil {
		return err
	}
	s.line("shared")
	if err := goes.Shutdown(); err != nil {
		return err
	}
	err = until("one to have all", func() bool {
		a, _, e := round()
		err = e
		return e != nil || a == 8
	})
	s.line("taken over")
	return err
}

func retry(s *stage) error {
	queues, p, err := s.open(1)
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for i := range 3 {
		if _, err := p.SendSync(context.Background(), s.message(queues[0], i)); err != nil {
			return err
		}
	}
	group := s.own("group")
	c, err := s.newPushConsumer(group, consumer.WithMaxReconsumeTimes(2), consumer.WithConsumeMessageBatchMaxSize(1))
	if err != nil {
		return err
	}
	var mutex sync.Mutex
	tries := map[string][]string{}
	err = c.Subscribe(queues[0].Topic, consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mutex.Lock()
		defer mutex.Unlock()
		body := string(messages[0].Body)
		tries[body] = append(tries[body], describe(messages[0]))
		if body == "body 1" && len(tries[body]) == 1 || body == "body 2" {
			return consumer.ConsumeRetryLater, nil
		}
		return consumer.ConsumeSuccess, nil
	})
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	defer c.Shutdown()
	err = until("all tries", func() bool {
		mutex.Lock()
		defer mutex.Unlock()
		return len(tries["body 0"]) >= 1 && len(tries["body 1"]) >= 2 && len(tries["body 2"]) >= 3
	})
	mutex.Lock()
	defer mutex.Unlock()
	for _, body := range slices.Sorted(maps.Keys(tries)) {
		for _, try := range tries[body] {
			s.line("try: %s", try)
		}
	}
	if err != nil {
		return err
	}
	// The topic comes with the first dead letter, and a consumer of a topic without route does not start.
	if _, err := s.queuesOf("%DLQ%"+group, 1); err != nil {
		return err
	}
	return s.printStored("%DLQ%"+group, 1)
}

// delay: the servers run with levels of one second, the second of two.
func delay(s *stage) error {
	queues, p, err := s.open(3)
	if err != nil {
		return err
	}
	defer p.Shutdown()
	due := map[string]time.Duration{"level 1": time.Second, "level 2": 2 * time.Second, "level 18": time.Second}
	for i, level := range []int{1, 2, 18} {
		m := s.message(queues[i], i)
		m.Body = fmt.Appendf(nil, "level %d", level)
		m.WithDelayTimeLevel(level)
		result, err := p.SendSync(context.Background(), m)
		if err != nil {
			return err
		}
		s.line("sent: status=%d", result.Status)
	}
	c, l, err := s.listen(s.own("group"), queues[0].Topic, "*")
	if err != nil {
		return err
	}
	defer c.Shutdown()
	if err := until("3 messages", func() bool { return l.size() >= 3 }); err != nil {
		return err
	}
	slices.SortFunc(l.received, func(a, b *primitive.MessageExt) int { return a.Queue.QueueId - b.Queue.QueueId })
	for _, m := range l.received {
		waited := time.Duration(m.StoreTimestamp-m.BornTimestamp) * time.Millisecond
		s.line("on time: %t, %s", waited >= due[string(m.Body)], describe(m))
	}
	return nil
}

func pull(s *stage) error {
	queues, p, err := s.open(2)
	if err != nil {
		return err
	}
	defer p.Shutdown()
	if err := s.fill(p, queues, 0, 20); err != nil {
		return err
	}
	c, err := rocketmq.NewPullConsumer(consumer.WithNameServer(s.nameServers), consumer.WithGroupName(s.own("group")),
		consumer.WithInstance(s.instance()), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	if err != nil {
		return err
	}
	if err := c.Subscribe(queues[0].Topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}); err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	defer c.Shutdown()
	for _, from := range []int64{0, 7, 4711} {
		result, err := c.PullFrom(context.Background(), queues[0], from, 5)
		if err != nil {
			s.line("from %d: %v", from, err)
			continue
		}
		s.line("from %d: status=%d next=%d min=%d max=%d messages=%d", from, result.Status, result.NextBeginOffset,
			result.MinOffset, result.MaxOffset, len(result.GetMessageExts()))
	}
	return nil
}
