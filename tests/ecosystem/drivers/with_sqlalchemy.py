"""SQLAlchemy: a table that it makes, a session that is undone, rows that come back by query."""
import sys
from sqlalchemy import String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Driven(Base):
    __tablename__ = "driven_by_sqlalchemy"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str] = mapped_column(String(40), index=True)


engine = create_engine(sys.argv[1].replace("postgresql:", "postgresql+psycopg:", 1))
Base.metadata.drop_all(engine)
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add(Driven(id=0, note="undone"))
    session.flush()
    session.rollback()
    session.add_all([Driven(id=n, note=f"note {n}") for n in range(1000)])
    session.commit()
    assert session.scalar(select(func.count()).select_from(Driven)) == 1000
    assert session.scalars(select(Driven).where(Driven.note == "note 7")).one().id == 7
Base.metadata.drop_all(engine)
engine.dispose()
