package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one step of the schema. A released step never changes; its
// number is its place in the order of file names, from 1.
type migration struct{ name, text string }

func (m migration) digest() string {
	sum := sha256.Sum256([]byte(m.text))
	return hex.EncodeToString(sum[:])
}

// migrations returns the steps that this program knows.
func migrations() ([]migration, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	var steps []migration
	for _, name := range names {
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		steps = append(steps, migration{name: name, text: string(text)})
	}
	return steps, nil
}

// migrate brings the schema up to date in one transaction. The file lock keeps
// everybody else away. Errors: ErrSchemaTooNew, ErrCorrupt for a recorded step
// that differs from ours, ErrInvalid for another program's database.
func migrate(ctx context.Context, c *sql.Conn) (err error) {
	steps, err := migrations()
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return classify(err)
	}
	defer func() {
		if err != nil {
			_, undo := c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			err = errors.Join(err, undo)
		}
	}()
	if err := claim(ctx, c); err != nil {
		return err
	}
	applied, err := appliedSteps(ctx, c)
	if err != nil {
		return err
	}
	if len(applied) > len(steps) {
		return fmt.Errorf("%w: it has %d steps, this program knows %d", store.ErrSchemaTooNew, len(applied), len(steps))
	}
	for i, step := range steps {
		if i < len(applied) {
			if applied[i] != step.digest() {
				return fmt.Errorf("%w: schema step %d is not the one that was applied", store.ErrCorrupt, i+1)
			}
			continue
		}
		if err := apply(ctx, c, i+1, step); err != nil {
			return fmt.Errorf("apply schema step %d: %w", i+1, classify(err))
		}
	}
	_, err = c.ExecContext(ctx, "COMMIT")
	return classify(err)
}

// claim marks an empty database as ours and refuses one of another program.
func claim(ctx context.Context, c *sql.Conn) error {
	var id, objects int
	err := c.QueryRowContext(ctx, "SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)").Scan(&id, &objects)
	if err != nil {
		return classify(err)
	}
	if id == applicationID {
		return nil
	}
	if id != 0 || objects != 0 {
		return fmt.Errorf("path: a database of another program: %w", store.ErrInvalid)
	}
	_, err = c.ExecContext(ctx, fmt.Sprintf(`PRAGMA application_id = %d;
CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied INTEGER NOT NULL) STRICT`, applicationID))
	return classify(err)
}

// appliedSteps returns the digests of the steps in the database, by number.
func appliedSteps(ctx context.Context, c *sql.Conn) ([]string, error) {
	rows, err := c.QueryContext(ctx, "SELECT sha256 FROM migration ORDER BY number")
	if err != nil {
		return nil, classify(err)
	}
	digests, err := collect(rows, func(row scanner) (s string, err error) {
		err = row.Scan(&s)
		return s, err
	})
	return digests, classify(err)
}

func apply(ctx context.Context, c *sql.Conn, number int, m migration) error {
	if _, err := c.ExecContext(ctx, m.text); err != nil {
		return err
	}
	_, err := c.ExecContext(ctx, "INSERT INTO migration (number, name, sha256, applied) VALUES (?,?,?,?)",
		number, m.name, m.digest(), time.Now().UnixMicro())
	return err
}
