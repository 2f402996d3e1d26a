package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"modernc.org/sqlite"
)

const (
	readers = 4
	// applicationID marks a file as ours ("llor"), so that another program's
	// database is refused and never migrated.
	applicationID = 0x6c6c6f72
)

// writerPragmas returns the writer's settings in the order in which they are
// made: secure_delete before the first write of the file's life. The writer
// checkpoints between commits, so the automatic checkpoint inside a commit is
// off; journal_size_limit cuts a log that outgrew it.
func writerPragmas() []string {
	return []string{
		"secure_delete=ON", "busy_timeout=5000", "journal_mode=WAL", "synchronous=FULL",
		"foreign_keys=ON", "mmap_size=0", "wal_autocheckpoint=0", "journal_size_limit=67108864",
		fmt.Sprint("max_page_count=", maxPages),
	}
}

func readerPragmas() []string {
	return []string{"busy_timeout=5000", "mmap_size=0", "query_only=ON"}
}

// connector opens connections with settings in a given order, which the query
// part of a data source name would not keep.
type connector struct {
	driver *sqlite.Driver
	name   string
	pragma []string
}

func openPool(path string, pragma []string, size int) *sql.DB {
	name := (&url.URL{Scheme: "file", Path: path}).String()
	db := sql.OpenDB(&connector{driver: &sqlite.Driver{}, name: name, pragma: pragma})
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db
}

// Driver implements [driver.Connector].
func (c *connector) Driver() driver.Driver { return c.driver }

// Connect implements [driver.Connector].
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.name)
	if err != nil {
		return nil, err
	}
	exec, ok := conn.(driver.ExecerContext)
	if !ok {
		return nil, errors.Join(errors.New("driver can not execute text"), conn.Close())
	}
	for _, p := range c.pragma {
		if _, err := exec.ExecContext(ctx, "PRAGMA "+p, nil); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// checkEngine refuses an engine with a known fault and a file system on which
// the settings do not hold.
func checkEngine(ctx context.Context, c *sql.Conn) error {
	var version string
	if err := c.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return classify(err)
	}
	if err := checkVersion(version); err != nil {
		return err
	}
	for pragma, want := range map[string]string{
		"secure_delete": "1", "journal_mode": "wal", "synchronous": "2", "foreign_keys": "1",
	} {
		var got string
		if err := c.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&got); err != nil {
			return classify(err)
		}
		if got != want {
			return fmt.Errorf("setting %s is %s here, must be %s: is this a local disk?", pragma, got, want)
		}
	}
	return nil
}

// checkVersion refuses engines that can corrupt a write-ahead log at its reset:
// those before 3.51.3, and 3.52.0.
func checkVersion(version string) error {
	var v [3]int
	for i, part := range strings.SplitN(version, ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return errors.New("engine version is not readable")
		}
		v[i] = n
	}
	number := v[0]*1_000_000 + v[1]*1_000 + v[2]
	if number < 3_051_003 || number == 3_052_000 {
		return fmt.Errorf("SQLite %s can corrupt its log, need 3.51.3 or newer and not 3.52.0", version)
	}
	return nil
}
