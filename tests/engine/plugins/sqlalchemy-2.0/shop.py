"""A plugin written for SQLAlchemy 2.0: what it uses is not in 1.4."""
from __future__ import annotations

import sqlalchemy
from sqlalchemy import ForeignKey, create_engine, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

VERSION = "2.0"


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)  # resolved in sys.modules[__name__], as a string
    name: Mapped[str]
    orders: Mapped[list[Order]] = relationship(back_populates="customer")


class Order(Base):
    __tablename__ = "order"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    amount: Mapped[int]
    customer: Mapped[Customer] = relationship(back_populates="orders")


def work(turn, rounds):
    """Orders and queries; TURN() waits for the others. -> the version that has answered each of them"""
    from sqlalchemy.engine import Engine, default  # at the call, in whichever thread it is

    found = []
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(rounds):
            turn()
            session.add(Customer(name=f"customer {number}", orders=[Order(amount=number), Order(amount=1000)]))
            session.commit()
            names = session.scalars(select(Customer.name).join(Customer.orders).where(Order.amount == 1000)).all()
            assert names == [f"customer {each}" for each in range(number + 1)], names
            total = session.scalar(select(func.sum(Order.amount)))
            assert total == sum(range(number + 1)) + 1000 * (number + 1), total
            many = session.scalars(insert(Order).returning(Order.amount), [{"customer_id": 1, "amount": 0}] * 3).all()  # 2.0 alone
            assert many == [0, 0, 0], many
            assert isinstance(engine, Engine) and isinstance(engine.dialect, default.DefaultDialect)
            found.append(sqlalchemy.__version__)
    return found
