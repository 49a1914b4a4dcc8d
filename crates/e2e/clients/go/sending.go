package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/apache/rocketmq-client-go/v2/primitive"
)

func sendSync(s *stage) error {
	queues, err := s.newTopic(s.own("topic"), 4)
	if err != nil {
		return err
	}
	p, err := s.newProducer()
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for i := range 8 {
		m := s.message(queues[i%4], i)
		m.Flag = int32(i)
		m.WithProperty("shade", fmt.Sprintf("grün %d", i))
		if i == 7 {
			m.Body = []byte(strings.Repeat("gantry", 1000)) // compressed
		}
		result, err := p.SendSync(context.Background(), m)
		if err != nil {
			return err
		}
		s.line("sent %d: %s", i, describeSent(result))
	}
	return s.printStored(queues[0].Topic, 8)
}

func sendAsync(s *stage) error {
	queues, err := s.newTopic(s.own("topic"), 2)
	if err != nil {
		return err
	}
	p, err := s.newProducer()
	if err != nil {
		return err
	}
	defer p.Shutdown()
	answers := make([]string, 10)
	var pending sync.WaitGroup
	for i := range answers {
		pending.Add(1)
		err := p.SendAsync(context.Background(), func(_ context.Context, r *primitive.SendResult, err error) {
			defer pending.Done()
			if err != nil {
				answers[i] = err.Error()
				return
			}
			answers[i] = fmt.Sprintf("status=%d queue=%d", r.Status, r.MessageQueue.QueueId)
		}, s.message(queues[i%2], i))
		if err != nil {
			return err
		}
	}
	pending.Wait()
	for i, answer := range answers {
		s.line("answer %d: %s", i, answer)
	}
	return s.printStored(queues[0].Topic, 10)
}

func sendOneWay(s *stage) error {
	queues, err := s.newTopic(s.own("topic"), 2)
	if err != nil {
		return err
	}
	p, err := s.newProducer()
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for i := range 10 {
		if err := p.SendOneWay(context.Background(), s.message(queues[i%2], i)); err != nil {
			return err
		}
	}
	return s.printStored(queues[0].Topic, 10)
}

func sendBatch(s *stage) error {
	queues, err := s.newTopic(s.own("topic"), 1)
	if err != nil {
		return err
	}
	p, err := s.newProducer()
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for round := range 2 {
		var batch []*primitive.Message
		for i := range 5 {
			batch = append(batch, s.message(queues[0], round*5+i))
		}
		result, err := p.SendSync(context.Background(), batch...)
		if err != nil {
			return err
		}
		s.line("batch %d: %s", round, describeSent(result))
	}
	return s.printStored(queues[0].Topic, 10)
}

// refused shows codes and words of what a broker does not do.
func refused(s *stage) error {
	queues, err := s.newTopic(s.own("topic"), 1)
	if err != nil {
		return err
	}
	p, err := s.newProducer()
	if err != nil {
		return err
	}
	defer p.Shutdown()
	none := *queues[0]
	none.QueueId = 9
	_, err = p.SendSync(context.Background(), s.message(&none, 0))
	s.line("send to queue 9 of 1: %v", err)
	wordy := s.message(queues[0], 0)
	wordy.WithProperty("long", strings.Repeat("x", 40_000))
	_, err = p.SendSync(context.Background(), wordy)
	s.line("property of 40 000 characters: %v", err)
	result, err := p.SendSync(context.Background(), s.message(queues[0], 1))
	if err != nil {
		return err
	}
	s.line("served afterwards: %s", describeSent(result))
	return nil
}

// printStored shows what a consumer finds in a topic, in an order that does not depend on who was first.
func (s *stage) printStored(topic string, count int) error {
	c, l, err := s.listen(s.own("reader"), topic, "*")
	if err != nil {
		return err
	}
	defer c.Shutdown()
	if err := until("all messages", func() bool { return l.size() >= count }); err != nil {
		return err
	}
	var lines []string
	for _, m := range l.received {
		lines = append(lines, describe(m))
	}
	slices.Sort(lines)
	for _, line := range lines {
		s.line("stored %s", line)
	}
	return nil
}
