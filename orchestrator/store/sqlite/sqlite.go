// Package sqlite keeps the tasks of one orchestrator in one SQLite file.
//
// It implements [store.Store] and passes storetest with durability: what a call
// acknowledged is on stable storage, because every commit is synced before its
// callers are answered. Waiting writes share one commit, so 64 callers pay for
// one sync and not for 64.
//
// # One process, one local disk
//
// A lock beside the file keeps a second process out ([store.ErrInUse]); SQLite's
// write-ahead log needs shared memory, so network file systems do not work.
//
// # Secrets
//
// Bodies and outputs arrive sealed and are stored as they are. Deleted content
// is overwritten (secure_delete). The file is created 0600 in a directory 0700.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// Config says where a store lies.
type Config struct {
	Path   string       // of the database file, required; "<Path>.lock" lies beside it. A missing directory is made with mode 0700
	Logger *slog.Logger // nil: slog.DiscardHandler
}

// Store is a [store.Store] in a SQLite file. All methods are safe for
// concurrent use.
type Store struct {
	log  *slog.Logger
	path string // absolute
	lock *os.File
	conn *sql.DB // the writer's, one connection
	read *sql.DB // the readers', four connections

	ending sync.Mutex   // held by Close, so that a second one waits for the first
	gate   sync.RWMutex // held for reading by calls that use ops or read; Close takes it
	closed bool         // guarded by gate
	ops    chan *op     // to the writer, closed by Close

	patience time.Duration // of an erasure with readers of an old state

	writer  *writer
	writes  sync.WaitGroup     // the writer's goroutine
	checked sync.WaitGroup     // the background check
	stop    context.CancelFunc // ends the background check
	damage  atomic.Bool        // set once, by the background check
}

var _ store.Store = (*Store)(nil)

// Open opens or makes the store at c.Path, brings its schema up to date and
// starts its writer. Errors: [store.ErrInUse], [store.ErrSchemaTooNew],
// [store.ErrCorrupt], and fs.ErrPermission for a directory that others may write
// to. The caller closes the store.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Path == "" {
		return nil, fmt.Errorf("open store: path: %w", store.ErrInvalid)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	f, err := openFiles(c.Path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{
		log: c.Logger, path: f.path, lock: f.lock,
		conn: openPool(f.path, writerPragmas(), 1), read: openPool(f.path, readerPragmas(), readers),
		ops: make(chan *op, groupOps), patience: scrubWait,
	}
	if err := s.start(ctx, f.unclean); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), s.release())
	}
	return s, nil
}

// start prepares the connections and starts the goroutines of s.
func (s *Store) start(ctx context.Context, unclean bool) error {
	c, err := s.conn.Conn(ctx)
	if err != nil {
		return classify(err)
	}
	if err := checkEngine(ctx, c); err != nil {
		return errors.Join(err, c.Close())
	}
	if err := migrate(ctx, c); err != nil {
		return errors.Join(err, c.Close())
	}
	if s.writer, err = newWriter(ctx, c, s.log); err != nil {
		return errors.Join(classify(err), c.Close())
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.writes.Go(func() { s.writer.run(s.ops) })
	if unclean {
		s.checked.Go(func() { s.check(background) })
	}
	return nil
}

// Durable implements [store.Upkeep]: true.
func (s *Store) Durable() bool { return true }

// Close implements [store.Upkeep]. It writes the log back into the file.
func (s *Store) Close() error {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.closed {
		return nil
	}
	s.gate.Lock()
	s.closed = true
	close(s.ops)
	s.gate.Unlock()
	s.stop()
	s.writes.Wait()
	s.checked.Wait()
	if err := s.release(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// release gives back what Open took: connections first, the lock last.
func (s *Store) release() error {
	err := s.read.Close()
	if s.writer != nil {
		err = errors.Join(err, s.writer.close())
	}
	return errors.Join(err, s.conn.Close(), s.lock.Close())
}
