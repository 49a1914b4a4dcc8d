package main

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// stage is what a scenario has at hand: names of its own, clients, and the transcript.
type stage struct {
	name        string
	nameServers []string
	broker      string
	prefix      string

	mutex  sync.Mutex
	text   strings.Builder
	broken bool
}

var (
	clients   atomic.Int32
	addresses = regexp.MustCompile(`127\.0\.0\.1:\d+`)
)

const patience = 60 * time.Second

func (s *stage) line(format string, values ...any) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	fmt.Fprintf(&s.text, format+"\n", values...)
}

// transcript leaves out what differs from run to run: our name prefix, and addresses.
func (s *stage) transcript() string {
	plain := s.text.String()
	if s.prefix != "" {
		plain = strings.ReplaceAll(plain, s.prefix, "")
	}
	return "== go-" + s.name + "\n" + addresses.ReplaceAllString(plain, "<address>")
}

// own is a topic or group name that no other scenario and no other run uses.
func (s *stage) own(suffix string) string {
	return s.prefix + s.name + "-" + suffix
}

func (s *stage) instance() string {
	return fmt.Sprintf("%s-%d", s.name, clients.Add(1))
}

// newTopic creates a topic on the broker and returns its queues once the name server knows it.
func (s *stage) newTopic(topic string, queues int) ([]*primitive.MessageQueue, error) {
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(s.nameServers)))
	if err != nil {
		return nil, err
	}
	defer a.Close()
	err = a.CreateTopic(context.Background(), admin.WithTopicCreate(topic), admin.WithBrokerAddrCreate(s.broker),
		admin.WithReadQueueNums(queues), admin.WithWriteQueueNums(queues))
	if err != nil {
		return nil, err
	}
	return s.queuesOf(topic, queues)
}

// queuesOf waits until the name server knows the topic with that many queues.
func (s *stage) queuesOf(topic string, queues int) ([]*primitive.MessageQueue, error) {
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(s.nameServers)))
	if err != nil {
		return nil, err
	}
	defer a.Close()
	var found []*primitive.MessageQueue
	err = until("the route of "+topic, func() bool {
		found, err = a.FetchPublishMessageQueues(context.Background(), topic)
		return err == nil && len(found) == queues
	})
	slices.SortFunc(found, func(x, y *primitive.MessageQueue) int { return x.QueueId - y.QueueId })
	return found, err
}

// newProducer sends where the message says.
func (s *stage) newProducer() (rocketmq.Producer, error) {
	p, err := rocketmq.NewProducer(producer.WithNameServer(s.nameServers), producer.WithGroupName(s.own("producer")),
		producer.WithInstanceName(s.instance()), producer.WithQueueSelector(producer.NewManualQueueSelector()))
	if err != nil {
		return nil, err
	}
	return p, p.Start()
}

func (s *stage) message(queue *primitive.MessageQueue, number int) *primitive.Message {
	m := primitive.NewMessage(queue.Topic, fmt.Appendf(nil, "body %d", number)).
		WithTag(fmt.Sprintf("tag%d", number%3)).WithKeys([]string{fmt.Sprintf("key-%d", number)})
	m.Queue = queue
	return m
}

// fill sends count messages, the n-th of them to queue n modulo queues.
func (s *stage) fill(p rocketmq.Producer, queues []*primitive.MessageQueue, first, count int) error {
	for i := first; i < first+count; i++ {
		if _, err := p.SendSync(context.Background(), s.message(queues[i%len(queues)], i)); err != nil {
			return err
		}
	}
	return nil
}

// listener remembers every message in the order of arrival.
type listener struct {
	mutex    sync.Mutex
	received []*primitive.MessageExt
}

func (l *listener) take(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.received = append(l.received, messages...)
	return consumer.ConsumeSuccess, nil
}

func (l *listener) size() int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return len(l.received)
}

// print shows what came, by queue and offset; a repetition is shown as such.
func (l *listener) print(s *stage, who string) {
	printQueues(s, who, l.received)
}

func printQueues(s *stage, who string, messages []*primitive.MessageExt) {
	byQueue := map[int][]int64{}
	for _, m := range messages {
		byQueue[m.Queue.QueueId] = append(byQueue[m.Queue.QueueId], m.QueueOffset)
	}
	for _, queue := range slices.Sorted(maps.Keys(byQueue)) {
		offsets := byQueue[queue]
		slices.Sort(offsets)
		s.line("%s: queue %d, offsets %v", who, queue, offsets)
	}
}

func (s *stage) newPushConsumer(group string, options ...consumer.Option) (rocketmq.PushConsumer, error) {
	options = append([]consumer.Option{consumer.WithNameServer(s.nameServers), consumer.WithGroupName(group),
		consumer.WithInstance(s.instance()), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset)}, options...)
	return rocketmq.NewPushConsumer(options...)
}

// listen starts a push consumer on everything in a topic.
func (s *stage) listen(group, topic, expression string, options ...consumer.Option) (rocketmq.PushConsumer, *listener, error) {
	c, err := s.newPushConsumer(group, options...)
	if err != nil {
		return nil, nil, err
	}
	l := &listener{}
	selector := consumer.MessageSelector{Type: consumer.TAG, Expression: expression}
	if err := c.Subscribe(topic, selector, l.take); err != nil {
		return nil, nil, err
	}
	return c, l, c.Start()
}

func until(what string, condition func() bool) error {
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			return fmt.Errorf("waited in vain for %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// describe shows everything of a message that does not depend on when and where it was stored.
func describe(m *primitive.MessageExt) string {
	properties := m.GetProperties()
	shown := []string{}
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		value := properties[key]
		switch key {
		case "UNIQ_KEY", "ORIGIN_MESSAGE_ID":
			value = fmt.Sprintf("<id of %d>", len(value))
		case "MAX_OFFSET":
			value = "<offset>"
		case "CONSUME_START_TIME":
			value = "<time>"
		}
		shown = append(shown, key+"="+value)
	}
	return fmt.Sprintf("%s q%d size=%d flag=%d sysFlag=%d reconsumed=%d prepared=%d born=%s host=%s body=%q %v",
		m.Topic, m.Queue.QueueId, m.StoreSize, m.Flag, m.SysFlag, m.ReconsumeTimes, m.PreparedTransactionOffset, m.BornHost,
		m.StoreHost, m.Body, shown)
}

func describeSent(r *primitive.SendResult) string {
	return fmt.Sprintf("status=%d queue=%d offset=%d region=%s trace=%t ids=%d", r.Status, r.MessageQueue.QueueId, r.QueueOffset,
		r.RegionID, r.TraceOn, len(strings.Split(r.OffsetMsgID, ",")))
}
